//! Checks that a file or folder belongs to this program's user and is not open to others. Another
//! user who owns it, or may write to it, could control what the program reads.

use std::fs::Metadata;
use std::io::{Error, Result};
use std::os::unix::fs::MetadataExt;

/// The mode bits of the group and of others: read, write and execute.
pub const GROUP_AND_OTHERS_MASK: u32 = 0o077;
/// The mode bit that lets others write. The group may write, because an operator chose the group.
pub const OTHERS_WRITE_MASK: u32 = 0o002;

/// Checks that the file belongs to the user that this program runs as and has none of
/// `forbidden_bits` in its mode.
///
/// # Errors
/// The file belongs to another user or is open to others. The message states how to fix it.
pub fn check_file(metadata: &Metadata, forbidden_bits: u32) -> Result<()> {
    let (current_user, owner) = (rustix::process::geteuid().as_raw(), metadata.uid());
    if owner != current_user {
        let message = format!(
            "belongs to another user (uid {owner}; this program runs as uid {current_user}); if \
             you trust its contents, run chown {current_user} on it"
        );
        return Err(Error::other(message));
    }
    if metadata.mode() & forbidden_bits != 0 {
        let (access, command) = match forbidden_bits {
            GROUP_AND_OTHERS_MASK => ("read", "chmod go="),
            _ => ("write to", "chmod o-w"),
        };
        return Err(Error::other(format!("other users can {access} it; run {command} on it")));
    }
    Ok(())
}
