//! The folder `mail` in the data folder, to which mail is written if no SMTP server is configured.
//!
//! Each mail is an `.eml` file. Only its owner can read it, because mail contains links that give
//! access to accounts. A file appears only when it is complete.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Access, access};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::config::ownership;

/// Makes the names of temporary files unique within this process.
static FILE_COUNTER: AtomicU64 = AtomicU64::new(0);

/// A folder for mail.
pub(super) struct MailFolder(PathBuf);

impl MailFolder {
    /// Returns the folder for mail in `data_dir`. Does not create it; [`Self::store`] and
    /// [`Self::check_writable`] do.
    pub(super) fn within(data_dir: &Path) -> Self {
        Self(data_dir.join("mail"))
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Checks that mail can be written, by writing a file and removing it. The folder remains.
    ///
    /// # Errors
    /// The folder is not writable, belongs to another user, or all users can write to it.
    pub(super) async fn check_writable(&self) -> io::Result<()> {
        let path = self.store(Uuid::nil(), Vec::new()).await?;
        fs::remove_file(path)
    }

    /// Checks, without creating anything, that the folder, or its nearest existing ancestor, is a
    /// folder that this process can write to. Does not check its owner and mode, which
    /// [`Self::store`] also requires.
    ///
    /// # Errors
    /// It is not a folder, or not writable.
    pub(super) fn check_access(&self) -> io::Result<()> {
        let existing = self.0.ancestors().find(|folder| folder.symlink_metadata().is_ok());
        let existing = existing.unwrap_or(Path::new("."));
        if !fs::metadata(existing)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(access(existing, Access::WRITE_OK | Access::EXEC_OK)?)
    }

    /// Writes a mail and returns the path of its file. Replaces an existing file with this id.
    ///
    /// # Errors
    /// The file cannot be written, or the folder belongs to another user or all users can write to
    /// it.
    pub(super) async fn store(&self, id: Uuid, mail: Vec<u8>) -> io::Result<PathBuf> {
        let folder = self.0.clone();
        let written = spawn_blocking(move || write(&folder, id, &mail)).await;
        written.map_err(io::Error::other)?
    }
}

fn write(folder: &Path, id: Uuid, mail: &[u8]) -> io::Result<PathBuf> {
    // Other users may traverse the data folder, but not list it: Postgres's files in it may belong
    // to another user.
    if let Some(data_dir) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o711).create(data_dir)?;
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // A group may write to the folder, as with volumes of containers. Its members can add and
    // remove messages, but not read them.
    ownership::check_file(&fs::metadata(folder)?, ownership::OTHERS_WRITE_MASK)?;
    let path = folder.join(format!("{id}.eml"));
    let number = FILE_COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".{id}.{}.{number}", std::process::id()));
    let written = write_new(&temporary, mail).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
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
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn only_the_owner_can_read_mail() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = MailFolder::within(&dir.path().join("data"));
        let path = folder.store(Uuid::from_u128(7), b"mail".to_vec()).await.expect("a file");
        assert_eq!(fs::read(&path).expect("a file"), b"mail");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&dir.path().join("data/mail")), 0o700);
    }

    #[tokio::test]
    async fn no_mail_is_written_to_a_folder_of_another_user_or_that_all_users_can_write_to() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = MailFolder::within(dir.path());
        let path = dir.path().join("mail");
        fs::create_dir(&path).expect("a folder");
        let store = async || folder.store(Uuid::from_u128(7), b"mail".to_vec()).await;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("a changed mode");
        let error = store().await.expect_err("a rejection");
        assert!(error.to_string().contains("chmod o-w"), "{error}");
        // The mode of a volume that a group may write to.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2775)).expect("a changed mode");
        let path_of_mail = store().await.expect("a file");
        assert_eq!(mode(&path_of_mail), 0o600);
        fs::remove_file(path_of_mail).expect("removed");
        // Only root can change the owner.
        if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
            let error = store().await.expect_err("a rejection");
            assert!(error.to_string().contains("another user (uid 65534"), "{error}");
        }
        assert_eq!(fs::read_dir(&path).expect("a file").count(), 0);
    }

    #[tokio::test]
    async fn a_mail_with_the_same_id_replaces_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = MailFolder::within(dir.path());
        let id = Uuid::from_u128(7);
        let first = folder.store(id, b"first".to_vec()).await.expect("a file");
        let second = folder.store(id, b"second".to_vec()).await.expect("a file");
        assert_eq!(first, second);
        assert_eq!(fs::read(&second).expect("a file"), b"second");
        assert_eq!(fs::read_dir(dir.path().join("mail")).expect("a file").count(), 1);
    }

    #[tokio::test]
    async fn a_mail_that_cannot_be_written_leaves_no_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let id = Uuid::from_u128(7);
        fs::create_dir_all(dir.path().join(format!("mail/{id}.eml/in the way"))).expect("a folder");
        let folder = MailFolder::within(dir.path());
        folder.store(id, b"mail".to_vec()).await.expect_err("an error");
        assert_eq!(fs::read_dir(dir.path().join("mail")).expect("a file").count(), 1);
    }
}
