//! Checks that the schema is as the migrations created it, and that no other role can create
//! objects in it.

use sqlx::PgConnection;

use super::Check;
use crate::error::Result;
use crate::repo::{catalog, schema_diff};

/// How many differences are named.
const MAX_LISTED: usize = 20;

/// Checks whether other roles may create functions and operators in the schema: such a function
/// could be called in place of a system function where its argument types match better.
pub(super) async fn check_creators(db: &mut PgConnection) -> Result<Check> {
    let (owner, creators) = schema_diff::list_schema_creators(db).await?;
    if creators.is_empty() {
        return Ok(Check::ok("schema", "no other role may create objects in it"));
    }
    let text = format!(
        "others may create in it ({}), so their functions could run in our name: have {owner} run \
         revoke create on schema … from …",
        creators.join(", ")
    );
    Ok(Check::problem("schema", text))
}

/// Checks that functions, triggers, policies, constraints, columns, owners and privileges are those
/// of this version. Skipped where another role owns them, which another check reports.
pub(super) async fn check_definitions(db: &mut PgConnection) -> Result<Check> {
    if !catalog::list_tables_of_other_owners(db).await?.is_empty() {
        return Ok(Check::warning("definitions", "not compared: the tables are another role's"));
    }
    let differences = schema_diff::differences(db).await?;
    if differences.is_empty() {
        let text = "functions, triggers, policies and constraints are as this version creates them";
        return Ok(Check::ok("definitions", text));
    }
    let more = match differences.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named =
        differences.iter().take(MAX_LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let text = format!(
        "{named}{more}: put them back as the migrations create them, then look what was done with \
         tenantry audit verify"
    );
    Ok(Check::problem("definitions", text))
}
