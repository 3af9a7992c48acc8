//! Checks that the schema's definitions are those of the migrations, and that no other role may
//! create objects in the schema.

use sqlx::PgConnection;

use super::Check;
use crate::error::Result;
use crate::repo::{catalog, schema_diff};

/// The maximum number of differences in the output.
const MAX_LISTED: usize = 20;

/// Checks that no other role may create functions and operators in the schema. Postgres could call
/// those instead of the system's if their types match better.
pub(super) async fn check_creators(db: &mut PgConnection) -> Result<Check> {
    let (owner, creators) = schema_diff::list_schema_creators(db).await?;
    if creators.is_empty() {
        return Ok(Check::ok("schema", "no other role may create objects in it"));
    }
    let text = format!(
        "other roles may create objects in it ({}), so their functions could run with this role's \
         privileges: have {owner} run revoke create on schema … from …",
        creators.join(", ")
    );
    Ok(Check::problem("schema", text))
}

/// Checks that functions, triggers, policies, constraints, columns, owners and privileges are those
/// of this version. If another role owns the tables, they cannot be compared; the check of the
/// owner reports that.
pub(super) async fn check_definitions(db: &mut PgConnection) -> Result<Check> {
    if !catalog::list_tables_of_other_owners(db).await?.is_empty() {
        let text = "not compared, because another role owns the tables";
        return Ok(Check::warning("definitions", text));
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
    let listed =
        differences.iter().take(MAX_LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let text = format!(
        "{listed}{more}: restore them to what the migrations create, then run tenantry audit \
         verify to find out whether audit events were changed"
    );
    Ok(Check::problem("definitions", text))
}
