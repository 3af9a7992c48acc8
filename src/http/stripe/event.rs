//! Reads what matters of an event. It is Stripe's object, not a caller's: what is not known here is
//! passed over, and what is needed and not there is named.

use chrono::DateTime;
use serde_json::Value;

use crate::domain::billing::{BillingEvent, BillingEventKind, NamedOrganization};
use crate::domain::provisioning::OrganizationSpec;
use crate::error::{Error, Issue, Result};
use crate::model::ValidationError;
use crate::model::email::Email;
use crate::model::idempotency::IdempotencyKey;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{BusinessDomain, OrganizationName};
use crate::model::origin::parse_comma_separated_origins;
use crate::model::payment::Charge;
use crate::model::plan::Plan;

/// How much of a description is kept.
const MAX_DESCRIPTION_CHARS: usize = 256;
/// How much is kept of an organization's id that is none.
const HANDLE: usize = 64;
/// The longest of Stripe's ids.
const MAX_ID_BYTES: usize = 255;
/// The latest time that an event may have, in seconds: the end of the year 9999.
const MAX_EVENT_SECONDS: i64 = 253_402_300_799;
/// What the types of events about a checkout begin with.
const CHECKOUT: &str = "checkout.session.";
/// What a checkout's metadata are, in the session.
const SESSION_METADATA: &str = "data.object.metadata";

/// The event and its name, or `None` for one that is not used.
///
/// # Errors
/// Invalid, with everything that is needed and not there; of a paid checkout of ours, that is an
/// event, too, as long as its id and time can be read.
pub fn read(body: &Value) -> Result<Option<(IdempotencyKey, BillingEvent)>> {
    let mut reader = EventReader { body, issues: Vec::new() };
    let event = reader.event();
    if reader.issues.is_empty() { Ok(event) } else { Err(Error::invalid(reader.issues)) }
}

/// An event being read, and what was found missing so far.
struct EventReader<'a> {
    body: &'a Value,
    issues: Vec<Issue>,
}

impl EventReader<'_> {
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
            self.add_issue("created", "must be a time in seconds");
        }
        let customer = self.id("data.object.customer");
        let subscription = match kind.as_str() {
            "customer.subscription.deleted" => self.id("data.object.id"),
            _ => self
                .id("data.object.parent.subscription_details.subscription")
                .or_else(|| self.id("data.object.subscription")),
        };
        let (charge, mut what) = match kind.as_str() {
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
            what = Some(self.bought_incomplete());
        }
        let id = key.as_str().to_owned();
        Some((key, BillingEvent { id, at, customer, subscription, charge, kind: what? }))
    }

    /// Whether events of this type are used, and this one is.
    fn is_used(&self, kind: &str) -> bool {
        match kind {
            "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
                self.is_organization_purchase()
            }
            "invoice.paid" | "invoice.payment_failed" | "customer.subscription.deleted" => true,
            _ => false,
        }
    }

    /// Whether a checkout paid for an organization: one of another product names none, and one in
    /// the mode `setup` only notes down how somebody will pay. One that is not paid yet comes again
    /// when it is.
    fn is_organization_purchase(&self) -> bool {
        let status = self.text_at("data.object.payment_status");
        matches!(status, Some("paid" | "no_payment_required"))
            && self.text_at("data.object.mode") != Some("setup")
            && self.value_at(&format!("{SESSION_METADATA}.org_id")).is_some()
    }

    /// What was bought, as the session's metadata say.
    fn purchase(&mut self) -> Option<BillingEventKind> {
        let handle = self.required(&format!("{SESSION_METADATA}.org_id"), OrgHandle::parse);
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
        let spec = Box::new(OrganizationSpec { handle, name, domain, plan, allowed_origins });
        let pays_once = self.text_at("data.object.mode") == Some("payment");
        let is_existing = self.has_existing_mode(SESSION_METADATA);
        Some(BillingEventKind::Bought { spec, email, pays_once, is_existing })
    }

    /// The same, where something is missing or wrong: what is there, and everything that is not.
    fn bought_incomplete(&mut self) -> BillingEventKind {
        let handle = self.text_at(&format!("{SESSION_METADATA}.org_id")).unwrap_or_default();
        let handle = handle.chars().filter(|it| !it.is_control()).take(HANDLE).collect();
        let email = self.email();
        BillingEventKind::BoughtIncomplete {
            handle,
            email,
            issues: std::mem::take(&mut self.issues),
        }
    }

    /// Where the buyer reads mail.
    fn email(&self) -> Option<Email> {
        let email = self.text_at("data.object.customer_details.email");
        let email = email.or_else(|| self.text_at("data.object.customer_email"));
        email.and_then(|email| Email::parse(email).ok())
    }

    /// The organization that the metadata of the subscription, or of the object itself, name.
    fn named_organization(&self) -> Option<NamedOrganization> {
        let places = [
            "data.object.parent.subscription_details.metadata",
            "data.object.subscription_details.metadata",
            SESSION_METADATA,
        ];
        places.iter().find_map(|place| {
            let handle = OrgHandle::parse(self.text_at(&format!("{place}.org_id"))?).ok()?;
            let begins = self.text_at("data.object.billing_reason") == Some("subscription_create");
            Some(NamedOrganization {
                handle,
                is_existing: self.has_existing_mode(place),
                is_first_invoice: begins,
            })
        })
    }

    /// Whether metadata say that the organization is there, and is the payer's.
    fn has_existing_mode(&self, metadata: &str) -> bool {
        self.text_at(&format!("{metadata}.mode")) == Some("existing")
    }

    /// The money; `None` where none was asked for.
    fn charge(&mut self, amount: &str) -> Option<Charge> {
        let amount = self.value_at(&format!("data.object.{amount}")).and_then(Value::as_i64);
        let amount = amount.filter(|amount| *amount > 0)?;
        let currency = self.required("data.object.currency", |text| {
            let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_lowercase());
            is_code.then(|| text.to_owned()).ok_or("must be a currency such as usd".into())
        });
        // A session that makes an invoice is told of by that, too.
        let reference = match self.id("data.object.invoice") {
            Some(invoice) => Some(invoice),
            None => self.required("data.object.id", parse_id),
        };
        let lines = self.value_at("data.object.lines.data.0.description").and_then(Value::as_str);
        let described = self.text_at("data.object.description").or(lines);
        let description = described.map(|text| {
            text.chars().filter(|it| !it.is_control()).take(MAX_DESCRIPTION_CHARS).collect()
        });
        Some(Charge { amount, currency: currency?, reference: reference?, description })
    }

    /// An id, of an object that may be there whole in its place.
    fn id(&mut self, path: &str) -> Option<String> {
        let whole = format!("{path}.id");
        let place = if self.text_at(path).is_some() { path } else { whole.as_str() };
        self.optional(place, parse_id)
    }

    fn value_at(&self, path: &str) -> Option<&Value> {
        self.body.pointer(&format!("/{}", path.replace('.', "/")))
    }

    /// The string at a path; one that is empty says nothing.
    fn text_at(&self, path: &str) -> Option<&str> {
        self.value_at(path).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// What has to be there.
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

    /// What has to be right where it is there.
    fn optional<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        let parsed = parse(self.text_at(path)?);
        parsed.map_err(|ValidationError(why)| self.add_issue(path, why)).ok()
    }

    /// One of these words.
    fn choice<T: Copy>(
        &mut self,
        path: &str,
        choices: &[(T, &'static str)],
        is_needed: bool,
    ) -> Option<T> {
        let word = self.text_at(path);
        if word.is_none() && !is_needed {
            return None;
        }
        let chosen = choices.iter().find(|(_, choice)| Some(*choice) == word);
        if chosen.is_none() {
            let allowed = choices.iter().map(|(_, choice)| *choice).collect();
            let path = path_segments(path);
            self.issues.push(Issue { path, ..Issue::one_of("", allowed) });
        }
        chosen.map(|(chosen, _)| *chosen)
    }

    fn add_issue(&mut self, path: &str, why: impl Into<std::borrow::Cow<'static, str>>) {
        self.issues.push(Issue { path: path_segments(path), ..Issue::body(why) });
    }
}

fn path_segments(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// Reads one of Stripe's ids.
fn parse_id(text: &str) -> Result<String, ValidationError> {
    if text.len() > MAX_ID_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            format!("must be an id of at most {MAX_ID_BYTES} visible ASCII characters").into()
        );
    }
    Ok(text.to_owned())
}
