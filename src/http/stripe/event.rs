//! Parses Stripe events. The object is defined by Stripe, so unknown fields are ignored; a field
//! that is needed and missing is reported.

use chrono::DateTime;
use serde_json::Value;

use crate::domain::billing::event::{BillingEvent, BillingEventKind, NamedOrganization};
use crate::domain::organizations::provisioning::OrganizationSpec;
use crate::error::{Error, Issue, Result};
use crate::model::ValidationError;
use crate::model::email::Email;
use crate::model::idempotency::IdempotencyKey;
use crate::model::leak::LeakPolicy;
use crate::model::names::OrganizationName;
use crate::model::organization::{BusinessDomain, OrganizationSettings};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::origin::parse_comma_separated_origins;
use crate::model::payment::Charge;
use crate::model::plan::Plan;

/// The maximum number of characters of a description that are stored.
const MAX_DESCRIPTION_CHARS: usize = 256;
/// The maximum number of characters of an invalid organization id that are stored.
const MAX_HANDLE_CHARS: usize = 64;
/// The length limit of Stripe's ids.
const MAX_ID_BYTES: usize = 255;
/// The latest time of an event, in seconds since 1970: the end of the year 9999.
const MAX_EVENT_SECONDS: i64 = 253_402_300_799;
/// The common prefix of the types of checkout events.
const CHECKOUT: &str = "checkout.session.";
/// The path of the metadata of an event's object.
const SESSION_METADATA: &str = "data.object.metadata";

/// Parses an event and its idempotency key; `None` for an event that is not used.
///
/// # Errors
/// Invalid, with every field that is missing or wrong. A paid checkout for an organization is
/// returned as [`BillingEventKind::BoughtIncomplete`] instead, provided that its id and time are
/// valid.
pub fn parse(body: &Value) -> Result<Option<(IdempotencyKey, BillingEvent)>> {
    let mut parser = EventParser { body, issues: Vec::new() };
    let event = parser.event();
    if parser.issues.is_empty() { Ok(event) } else { Err(Error::invalid(parser.issues)) }
}

/// An event that is being parsed, and the issues so far.
struct EventParser<'a> {
    body: &'a Value,
    issues: Vec<Issue>,
}

impl EventParser<'_> {
    fn event(&mut self) -> Option<(IdempotencyKey, BillingEvent)> {
        let kind = self.required("type", |text| Ok(text.to_owned()))?;
        if !self.is_used(&kind) {
            return None;
        }
        let key = self.required("id", IdempotencyKey::parse);
        let created = self.body.get("created").and_then(Value::as_i64);
        let created = created.filter(|seconds| (0..=MAX_EVENT_SECONDS).contains(seconds));
        let at = created.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        if at.is_none() {
            self.add_issue("created", "must be a Unix time in seconds");
        }
        let customer = self.id("data.object.customer");
        let subscription = match kind.as_str() {
            "customer.subscription.deleted" => self.id("data.object.id"),
            _ => self
                .id("data.object.parent.subscription_details.subscription")
                .or_else(|| self.id("data.object.subscription")),
        };
        let (charge, mut event_kind) = match kind.as_str() {
            "invoice.paid" => (
                self.charge("amount_paid"),
                Some(BillingEventKind::Paid(self.named_organization())),
            ),
            "invoice.payment_failed" => (
                self.charge("amount_due"),
                Some(BillingEventKind::PaymentFailed(self.named_organization())),
            ),
            "customer.subscription.deleted" => {
                (None, Some(BillingEventKind::SubscriptionEnded(self.named_organization())))
            }
            _ => (self.charge("amount_total"), self.purchase()),
        };
        let (key, at) = (key?, at?);
        if kind.starts_with(CHECKOUT) && !self.issues.is_empty() {
            event_kind = Some(self.bought_incomplete());
        }
        let id = key.as_str().to_owned();
        Some((key, BillingEvent { id, at, customer, subscription, charge, kind: event_kind? }))
    }

    /// Returns whether this type of event is used. A checkout must have paid for an organization.
    fn is_used(&self, kind: &str) -> bool {
        match kind {
            "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
                self.is_organization_purchase()
            }
            "invoice.paid" | "invoice.payment_failed" | "customer.subscription.deleted" => true,
            _ => false,
        }
    }

    /// Returns whether a checkout paid for an organization. A checkout for another product names no
    /// organization, and one in the mode `setup` only stores a payment method. A checkout that is
    /// not paid yet is followed by another event when it is.
    fn is_organization_purchase(&self) -> bool {
        let status = self.text_at("data.object.payment_status");
        matches!(status, Some("paid" | "no_payment_required"))
            && self.text_at("data.object.mode") != Some("setup")
            && self.value_at(&format!("{SESSION_METADATA}.org_id")).is_some()
    }

    /// Parses the purchase from the session's metadata.
    fn purchase(&mut self) -> Option<BillingEventKind> {
        let handle =
            self.required(&format!("{SESSION_METADATA}.org_id"), OrganizationHandle::parse);
        let plan = match self.text_at("data.object.metadata.tier") {
            Some(_) => self.choice(&format!("{SESSION_METADATA}.tier"), &Plan::ALL, true),
            None => self.choice(&format!("{SESSION_METADATA}.plan"), &Plan::ALL, true),
        };
        let name = self.optional(&format!("{SESSION_METADATA}.name"), OrganizationName::parse);
        let domain =
            self.choice(&format!("{SESSION_METADATA}.domain"), &BusinessDomain::ALL, false);
        let origins = self.optional(
            &format!("{SESSION_METADATA}.allowed_origins"),
            parse_comma_separated_origins,
        );
        let buyer = self.text_at("data.object.customer_details.name");
        let buyer = buyer.and_then(|name| OrganizationName::parse(name).ok());
        let email = self.email();
        let (handle, plan) = (handle?, plan?);
        let name = name.or(buyer).or_else(|| OrganizationName::parse(handle.as_str()).ok())?;
        let allowed_origins = origins.unwrap_or_default();
        let spec = OrganizationSpec {
            handle,
            name,
            domain,
            plan,
            allowed_origins,
            settings: OrganizationSettings::default(),
            leak_policy: LeakPolicy::default(),
        };
        let spec = Box::new(spec);
        let pays_once = self.text_at("data.object.mode") == Some("payment");
        let is_existing = self.has_existing_mode(SESSION_METADATA);
        Some(BillingEventKind::Bought { spec, email, pays_once, is_existing })
    }

    /// Returns an incomplete purchase, with the fields that are valid and all issues.
    fn bought_incomplete(&mut self) -> BillingEventKind {
        let handle = self.text_at(&format!("{SESSION_METADATA}.org_id")).unwrap_or_default();
        let handle = handle.chars().filter(|it| !it.is_control()).take(MAX_HANDLE_CHARS).collect();
        let email = self.email();
        BillingEventKind::BoughtIncomplete {
            handle,
            email,
            issues: std::mem::take(&mut self.issues),
        }
    }

    /// Returns the buyer's e-mail address.
    fn email(&self) -> Option<Email> {
        let email = self.text_at("data.object.customer_details.email");
        let email = email.or_else(|| self.text_at("data.object.customer_email"));
        email.and_then(|email| Email::parse(email).ok())
    }

    /// Returns the organization that is named by the metadata of the subscription or of the object
    /// itself.
    fn named_organization(&self) -> Option<NamedOrganization> {
        let paths = [
            "data.object.parent.subscription_details.metadata",
            "data.object.subscription_details.metadata",
            SESSION_METADATA,
        ];
        paths.iter().find_map(|metadata| {
            let handle =
                OrganizationHandle::parse(self.text_at(&format!("{metadata}.org_id"))?).ok()?;
            let is_first_invoice =
                self.text_at("data.object.billing_reason") == Some("subscription_create");
            Some(NamedOrganization {
                handle,
                is_existing: self.has_existing_mode(metadata),
                is_first_invoice,
            })
        })
    }

    /// Returns whether the metadata states that the organization exists and belongs to the payer.
    fn has_existing_mode(&self, metadata: &str) -> bool {
        self.text_at(&format!("{metadata}.mode")) == Some("existing")
    }

    /// Parses the amount; `None` if nothing was charged.
    fn charge(&mut self, amount: &str) -> Option<Charge> {
        let amount = self.value_at(&format!("data.object.{amount}")).and_then(Value::as_i64);
        let amount = amount.filter(|amount| *amount > 0)?;
        let currency = self.required("data.object.currency", |text| {
            let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_lowercase());
            is_code.then(|| text.to_owned()).ok_or("must be a currency code such as usd".into())
        });
        // A session that creates an invoice is reported by the invoice's event, too, so both use
        // the invoice's id.
        let reference = match self.id("data.object.invoice") {
            Some(invoice) => Some(invoice),
            None => self.required("data.object.id", parse_id),
        };
        let lines = self.value_at("data.object.lines.data.0.description").and_then(Value::as_str);
        let description = self.text_at("data.object.description").or(lines);
        let description = description.map(|text| {
            text.chars().filter(|it| !it.is_control()).take(MAX_DESCRIPTION_CHARS).collect()
        });
        Some(Charge { amount, currency: currency?, reference: reference?, description })
    }

    /// Parses the id of an object that is either referenced by its id or embedded.
    fn id(&mut self, path: &str) -> Option<String> {
        let embedded = format!("{path}.id");
        let id_path = if self.text_at(path).is_some() { path } else { embedded.as_str() };
        self.optional(id_path, parse_id)
    }

    fn value_at(&self, path: &str) -> Option<&Value> {
        self.body.pointer(&format!("/{}", path.replace('.', "/")))
    }

    /// Returns the string at a path, `None` if it is missing or empty.
    fn text_at(&self, path: &str) -> Option<&str> {
        self.value_at(path).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Parses a required field.
    fn required<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        if self.text_at(path).is_none() {
            self.add_issue(path, "is required");
        }
        self.optional(path, parse)
    }

    /// Parses an optional field.
    fn optional<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        let parsed = parse(self.text_at(path)?);
        parsed.map_err(|ValidationError(reason)| self.add_issue(path, reason)).ok()
    }

    /// Parses a field that must have one of these values.
    fn choice<T: Copy>(
        &mut self,
        path: &str,
        choices: &[(T, &'static str)],
        is_required: bool,
    ) -> Option<T> {
        let value = self.text_at(path);
        if value.is_none() && !is_required {
            return None;
        }
        let chosen = choices.iter().find(|(_, choice)| Some(*choice) == value);
        if chosen.is_none() {
            let allowed = choices.iter().map(|(_, choice)| *choice).collect();
            let path = path_segments(path);
            self.issues.push(Issue { path, ..Issue::one_of("", allowed) });
        }
        chosen.map(|(chosen, _)| *chosen)
    }

    fn add_issue(&mut self, path: &str, reason: impl Into<std::borrow::Cow<'static, str>>) {
        self.issues.push(Issue { path: path_segments(path), ..Issue::body(reason) });
    }
}

fn path_segments(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// Parses one of Stripe's ids.
fn parse_id(text: &str) -> Result<String, ValidationError> {
    if text.len() > MAX_ID_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            format!("must be an id of at most {MAX_ID_BYTES} visible ASCII characters").into()
        );
    }
    Ok(text.to_owned())
}
