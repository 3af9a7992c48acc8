//! Whether a file or folder is this program's own: whoever else owns it, or may write to it,
//! decides what is read there.

use std::fs::Metadata;
use std::io::{Error, Result};
use std::os::unix::fs::MetadataExt;

/// Others may neither read nor write.
pub const OTHERS_MASK: u32 = 0o077;
/// Others may not write; a group may, since an operator chose it.
pub const OTHERS_WRITE_MASK: u32 = 0o002;

/// Passes what belongs to the user that this program runs as, with none of the mode bits of
/// `denied`.
///
/// # Errors
/// Where it belongs to another user or is open to others; says what to do.
pub fn check_file(metadata: &Metadata, forbidden_bits: u32) -> Result<()> {
    let (me, owner) = (rustix::process::geteuid().as_raw(), metadata.uid());
    if owner != me {
        let text = format!(
            "belongs to another user (uid {owner}; this program runs as uid {me}); if it is yours, \
             give it to uid {me} with chown"
        );
        return Err(Error::other(text));
    }
    if metadata.mode() & forbidden_bits != 0 {
        let (can, how) = match forbidden_bits {
            OTHERS_MASK => ("read", "chmod go="),
            _ => ("write to", "chmod o-w"),
        };
        return Err(Error::other(format!("others can {can} it; close it with {how}")));
    }
    Ok(())
}
