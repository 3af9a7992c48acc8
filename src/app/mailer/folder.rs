//! The folder that receives the mail of a server without an SMTP server: `mail` beside its data.
//!
//! Each mail is an `.eml` file that only its owner can read, and that appears complete or not at
//! all: such mail contains links that give access to accounts.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Access, access};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::config::ownership;

/// Distinguishes unfinished files.
static FILE_COUNTER: AtomicU64 = AtomicU64::new(0);

/// A folder for mail.
pub(super) struct MailFolder(PathBuf);

impl MailFolder {
    /// The folder for mail in `data_dir`; it is made with the first mail.
    pub(super) fn within(data_dir: &Path) -> Self {
        Self(data_dir.join("mail"))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether mail can be kept, tried out: nothing is left but the folder.
    ///
    /// # Errors
    /// The file system's own.
    pub(super) async fn check_writable(&self) -> io::Result<()> {
        let path = self.store(Uuid::nil(), Vec::new()).await?;
        fs::remove_file(path)
    }

    /// Whether mail could most likely be kept, without making anything.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check_access(&self) -> io::Result<()> {
        let there = self.0.ancestors().find(|folder| folder.symlink_metadata().is_ok());
        let there = there.unwrap_or(Path::new("."));
        if !fs::metadata(there)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(access(there, Access::WRITE_OK | Access::EXEC_OK)?)
    }

    /// Writes a mail, in place of any other with this id, and returns its path.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) async fn store(&self, id: Uuid, mail: Vec<u8>) -> io::Result<PathBuf> {
        let folder = self.0.clone();
        let written = spawn_blocking(move || write(&folder, id, &mail)).await;
        written.map_err(io::Error::other)?
    }
}

fn write(folder: &Path, id: Uuid, mail: &[u8]) -> io::Result<PathBuf> {
    // Others may pass through our data, not look: Postgres's files have an owner of their own.
    if let Some(data_dir) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o711).create(data_dir)?;
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let named = |error| io::Error::other(format!("{}: {error}", folder.display()));
    // A user who may write here can remove or add mails, but not read them: so may a group that
    // owns the folder, as with volumes of containers.
    ownership::check_file(&fs::metadata(folder)?, ownership::OTHERS_WRITE_MASK).map_err(named)?;
    let path = folder.join(format!("{id}.eml"));
    let nth = FILE_COUNTER.fetch_add(1, Ordering::Relaxed);
    let unfinished = folder.join(format!(".{id}.{}.{nth}", std::process::id()));
    let written = write_new(&unfinished, mail).and_then(|()| fs::rename(&unfinished, &path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written.map(|()| path)
}

fn write_new(path: &Path, mail: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(mail)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn only_the_owner_reads_mail() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = MailFolder::within(&dir.path().join("data"));
        let path = folder.store(Uuid::from_u128(7), b"mail".to_vec()).await.expect("kept");
        assert_eq!(fs::read(&path).expect("there"), b"mail");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&dir.path().join("data/mail")), 0o700);
    }

    #[tokio::test]
    async fn a_folder_that_is_somebody_else_s_or_that_everybody_writes_to_gets_no_mail() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = MailFolder::within(dir.path());
        let path = dir.path().join("mail");
        fs::create_dir(&path).expect("made");
        let keep = async || folder.store(Uuid::from_u128(7), b"mail".to_vec()).await;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("opened");
        let refused = keep().await.expect_err("refused");
        assert!(refused.to_string().contains("chmod o-w"), "{refused}");
        // As a volume that is given to a group has it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2775)).expect("given to a group");
        let kept = keep().await.expect("kept");
        assert_eq!(mode(&kept), 0o600);
        fs::remove_file(kept).expect("removed");
        // Only root gives folders away.
        if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
            let refused = keep().await.expect_err("refused");
            assert!(refused.to_string().contains("another user (uid 65534"), "{refused}");
        }
        assert_eq!(fs::read_dir(&path).expect("there").count(), 0);
    }

    #[tokio::test]
    async fn a_mail_that_comes_again_is_still_one_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = MailFolder::within(dir.path());
        let id = Uuid::from_u128(7);
        let first = folder.store(id, b"first".to_vec()).await.expect("kept");
        let second = folder.store(id, b"second".to_vec()).await.expect("kept");
        assert_eq!(first, second);
        assert_eq!(fs::read(&second).expect("there"), b"second");
        assert_eq!(fs::read_dir(dir.path().join("mail")).expect("there").count(), 1);
    }

    #[tokio::test]
    async fn a_mail_that_can_not_be_kept_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let id = Uuid::from_u128(7);
        fs::create_dir_all(dir.path().join(format!("mail/{id}.eml/in the way"))).expect("made");
        let folder = MailFolder::within(dir.path());
        folder.store(id, b"mail".to_vec()).await.expect_err("refused");
        assert_eq!(fs::read_dir(dir.path().join("mail")).expect("there").count(), 1);
    }
}
