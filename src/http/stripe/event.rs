//! Reads what matters of an event. It is Stripe's object, not a caller's: what is not known here is
//! passed over, and what is needed and not there is named.

use chrono::DateTime;
use serde_json::Value;

use crate::domain::billing::{BillingEvent, Happened};
use crate::domain::provisioning::Order;
use crate::error::{Error, Issue, Result};
use crate::model::Invalid;
use crate::model::email::Email;
use crate::model::idempotency::IdempotencyKey;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{Domain, OrganizationName};
use crate::model::origin::parse_listed;
use crate::model::payment::Charge;
use crate::model::plan::Plan;

/// How much of a description is kept.
const DESCRIPTION: usize = 256;
/// The longest of Stripe's ids.
const ID: usize = 255;

/// The event and its name, or `None` for one that is not used.
///
/// # Errors
/// Invalid, with everything that is needed and not there.
pub fn read(body: &Value) -> Result<Option<(IdempotencyKey, BillingEvent)>> {
    let mut reader = Reader { body, issues: Vec::new() };
    let event = reader.event();
    if reader.issues.is_empty() { Ok(event) } else { Err(Error::invalid(reader.issues)) }
}

/// An event being read, and what was found missing so far.
struct Reader<'a> {
    body: &'a Value,
    issues: Vec<Issue>,
}

impl Reader<'_> {
    fn event(&mut self) -> Option<(IdempotencyKey, BillingEvent)> {
        let kind = self.needed("type", |text| Ok(text.to_owned()))?;
        if !self.is_used(&kind) {
            return None;
        }
        let key = self.needed("id", IdempotencyKey::parse);
        let created = self.body.get("created").and_then(Value::as_i64);
        let at = created.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        if at.is_none() {
            self.note("created", "must be a time in seconds");
        }
        let object = |path: &str| self.id(&format!("data.object.{path}"));
        let customer = object("customer");
        let subscription = match kind.as_str() {
            "customer.subscription.deleted" => object("id"),
            _ => object("parent.subscription_details.subscription")
                .or_else(|| object("subscription")),
        };
        let (charge, what) = match kind.as_str() {
            "invoice.paid" => (self.charge("amount_paid"), Happened::Paid(self.named())),
            "invoice.payment_failed" => {
                (self.charge("amount_due"), Happened::NotPaid(self.named()))
            }
            "customer.subscription.deleted" => (None, Happened::Ended(self.named())),
            _ => (self.charge("amount_total"), self.bought()?),
        };
        let (key, at) = (key?, at?);
        let id = key.as_str().to_owned();
        Some((key, BillingEvent { id, at, customer, subscription, charge, what }))
    }

    /// Whether events of this type are used, and this one is.
    fn is_used(&self, kind: &str) -> bool {
        match kind {
            // One that is not paid yet is told of again when it is.
            "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
                let status = self.text("data.object.payment_status");
                matches!(status, Some("paid" | "no_payment_required"))
            }
            "invoice.paid" | "invoice.payment_failed" | "customer.subscription.deleted" => true,
            _ => false,
        }
    }

    /// What was bought, as the session's metadata say.
    fn bought(&mut self) -> Option<Happened> {
        const METADATA: &str = "data.object.metadata";
        let handle = self.needed(&format!("{METADATA}.org_id"), OrgHandle::parse);
        let plan = match self.text("data.object.metadata.tier") {
            Some(_) => self.choice(&format!("{METADATA}.tier"), &Plan::ALL, true),
            None => self.choice(&format!("{METADATA}.plan"), &Plan::ALL, true),
        };
        let name = self.given(&format!("{METADATA}.name"), OrganizationName::parse);
        let domain = self.choice(&format!("{METADATA}.domain"), &Domain::ALL, false);
        let origins = self.given(&format!("{METADATA}.allowed_origins"), parse_listed);
        let buyer = self.text("data.object.customer_details.name");
        let buyer = buyer.and_then(|name| OrganizationName::parse(name).ok());
        let email = self.text("data.object.customer_details.email");
        let email = email.or_else(|| self.text("data.object.customer_email"));
        let email = email.and_then(|email| Email::parse(email).ok());
        let (handle, plan) = (handle?, plan?);
        let name = name.or(buyer).or_else(|| OrganizationName::parse(handle.as_str()).ok())?;
        let allowed_origins = origins.unwrap_or_default();
        let order = Box::new(Order { handle, name, domain, plan, allowed_origins });
        let pays_once = self.text("data.object.mode") == Some("payment");
        Some(Happened::Bought { order, email, pays_once })
    }

    /// The organization that the metadata of the subscription, or of the object itself, name.
    fn named(&self) -> Option<OrgHandle> {
        let places = [
            "data.object.parent.subscription_details.metadata.org_id",
            "data.object.subscription_details.metadata.org_id",
            "data.object.metadata.org_id",
        ];
        places.iter().find_map(|place| OrgHandle::parse(self.text(place)?).ok())
    }

    /// The money; `None` where none was asked for.
    fn charge(&mut self, amount: &str) -> Option<Charge> {
        let amount = self.at(&format!("data.object.{amount}")).and_then(Value::as_i64);
        let amount = amount.filter(|amount| *amount > 0)?;
        let currency = self.needed("data.object.currency", |text| {
            let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_lowercase());
            is_code.then(|| text.to_owned()).ok_or("must be a currency such as usd".into())
        });
        // A session that makes an invoice is told of by that, too.
        let reference = match self.id("data.object.invoice") {
            Some(invoice) => Some(invoice),
            None => self.needed("data.object.id", |text| Ok(text.to_owned())),
        };
        let lines = self.at("data.object.lines.data.0.description").and_then(Value::as_str);
        let described = self.text("data.object.description").or(lines);
        let description = described
            .map(|text| text.chars().filter(|it| !it.is_control()).take(DESCRIPTION).collect());
        Some(Charge { amount, currency: currency?, reference: reference?, description })
    }

    /// An id, of an object that may be there whole in its place.
    fn id(&self, path: &str) -> Option<String> {
        let text = self.text(path).or_else(|| self.text(&format!("{path}.id")))?;
        (text.len() <= ID && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| text.to_owned())
    }

    fn at(&self, path: &str) -> Option<&Value> {
        self.body.pointer(&format!("/{}", path.replace('.', "/")))
    }

    /// The string at a path; one that is empty says nothing.
    fn text(&self, path: &str) -> Option<&str> {
        self.at(path).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// What has to be there.
    fn needed<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        if self.text(path).is_none() {
            self.note(path, "is required");
        }
        self.given(path, parse)
    }

    /// What has to be right where it is there.
    fn given<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        let parsed = parse(self.text(path)?);
        parsed.map_err(|Invalid(why)| self.note(path, why)).ok()
    }

    /// One of these words.
    fn choice<T: Copy>(
        &mut self,
        path: &str,
        choices: &[(T, &'static str)],
        is_needed: bool,
    ) -> Option<T> {
        let word = self.text(path);
        if word.is_none() && !is_needed {
            return None;
        }
        let chosen = choices.iter().find(|(_, choice)| Some(*choice) == word);
        if chosen.is_none() {
            let allowed = choices.iter().map(|(_, choice)| *choice).collect();
            let path = steps(path);
            self.issues.push(Issue { path, ..Issue::of_choice("", allowed) });
        }
        chosen.map(|(chosen, _)| *chosen)
    }

    fn note(&mut self, path: &str, why: impl Into<std::borrow::Cow<'static, str>>) {
        self.issues.push(Issue { path: steps(path), ..Issue::of_body(why) });
    }
}

fn steps(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}
