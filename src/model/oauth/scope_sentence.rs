//! What scopes allow, in the words of the consent page.

use crate::model::oauth::OpenidScope;
use crate::model::scope::BuiltInScope;

/// Returns what the scope allows an app to do; `None` for a scope of the operator's own product,
/// whose meaning is not known here.
#[must_use]
pub fn scope_sentence(scope: &str) -> Option<&'static str> {
    if let Some(scope) = OpenidScope::parse(scope) {
        return Some(openid_sentence(scope));
    }
    let scope = BuiltInScope::ALL.iter().find(|it| it.as_str() == scope)?;
    Some(match scope {
        BuiltInScope::UserRead => "Read your name and e-mail address",
        BuiltInScope::UserWrite => {
            "Change your name and handle, and whether you get security mails"
        }
        BuiltInScope::ApiKeysRead => "List the organization's API keys, without their secrets",
        BuiltInScope::ApiKeysWrite => "Create, change and revoke the organization's API keys",
        BuiltInScope::ApiKeysManage => {
            "List, create, change and revoke the organization's API keys"
        }
        BuiltInScope::OrganizationRead => "Read the organization's name and settings",
        BuiltInScope::OrganizationWrite => "Change the organization's name and settings",
        BuiltInScope::MembersRead => "List the organization's members and their e-mail addresses",
        BuiltInScope::MembersWrite => "Invite and remove members, and change their roles",
        BuiltInScope::ProjectsRead => "Read the organization's projects",
        BuiltInScope::ProjectsWrite => "Create, change and delete the organization's projects",
        BuiltInScope::BillingRead => "Read the organization's payments",
        BuiltInScope::SubscriptionRead => "Read the organization's subscription",
        BuiltInScope::SubscriptionWrite => "Change the organization's subscription",
        BuiltInScope::UsageRead => "Read how much the organization uses the API",
        BuiltInScope::AuditRead => "Read the organization's audit log",
        BuiltInScope::AppsRead => "See the organization's apps, and what people granted to apps",
        BuiltInScope::AppsWrite => "Register and change the organization's apps",
        BuiltInScope::SsoRead => "See how the organization's members sign in",
        BuiltInScope::SsoWrite => "Change how the organization's members sign in",
    })
}

const fn openid_sentence(scope: OpenidScope) -> &'static str {
    match scope {
        OpenidScope::Openid => "Sign you in: know the id of your account, and when you signed in",
        OpenidScope::Profile => "Read your name",
        OpenidScope::Email => "Read your e-mail address",
    }
}
