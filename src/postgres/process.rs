//! Finding living processes of Postgres, and removing what dead ones left.
//!
//! A pid proves nothing: another program may have it by now, or it is a zombie that Postgres itself
//! takes for a living server. A process counts only if its command line contains the cluster's
//! name, which a zombie's does not.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Error;
use super::home::{ClusterHome, PORT};
use super::privileges::{ProcessUsers, clean_command};

/// How often to look again where the system offers no event to wait for.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Which line of the pid file names the folder of the socket.
const SOCKET_FOLDER_LINE: usize = 4;

/// How often to check whether Postgres accepts connections: each check costs it a process.
const CONNECT_INTERVAL: Duration = Duration::from_millis(100);

/// How long a killed process may take to end, or an unused Postgres.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A living postmaster: Postgres's main process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Postmaster {
    pid: u32,
    /// Whether it accepts connections.
    pub(super) is_ready: bool,
}

/// The living postmaster of this home, if there is one.
pub(super) fn postmaster(home: &ClusterHome) -> Option<Postmaster> {
    // Read once: the next moment the file may be another postmaster's.
    let text = fs::read(home.pid_file()).ok()?;
    let pid = parse_pid(&text)?;
    let is_running = is_postmaster(&command_line(pid), home.name()) && may_belong_to(pid, home);
    is_running.then_some(Postmaster { pid, is_ready: has_ready_line(&text) })
}

/// Whether the pid file states that its postmaster, dead or alive, accepts connections.
pub(super) fn is_marked_ready(home: &ClusterHome) -> bool {
    fs::read(home.pid_file()).is_ok_and(|text| has_ready_line(&text))
}

/// Sends the postmaster a fast shutdown and waits for its end, however long that takes: it is
/// writing committed data.
pub(super) fn stop(home: &ClusterHome) {
    let Some(Postmaster { pid, .. }) = postmaster(home) else {
        return;
    };
    signal("INT", &[pid]);
    while is_postmaster(&command_line(pid), home.name()) {
        sleep(POLL_INTERVAL);
    }
}

/// Whether a Postgres accepts connections on this home's socket, in whatever container it runs.
pub(super) fn answers(home: &ClusterHome) -> bool {
    home.socket().is_some_and(|socket| UnixStream::connect(socket).is_ok())
}

/// Waits until an unused Postgres, which only a janitor in another container can stop, accepts no
/// connections any more.
pub(super) fn wait_for_silence(home: &ClusterHome) -> Result<(), Error> {
    let started = Instant::now();
    while answers(home) {
        if started.elapsed() > KILL_TIMEOUT {
            return Err(Error::InUse { home: home.path().to_owned() });
        }
        sleep(CONNECT_INTERVAL);
    }
    Ok(())
}

/// Removes a home whose Postgres has ended, with the folder of its socket.
pub(super) fn remove(home: &ClusterHome) -> Result<(), Error> {
    if let (None, Some(folder)) = (home.home_socket_folder(), home.socket_folder()) {
        // Fails where the folder contains anything else, which is kept.
        drop((remove_socket(home), fs::remove_dir(folder)));
    }
    fs::remove_dir_all(home.path()).map_err(|e| Error::io("remove", home.path(), e))
}

/// The socket folder that the pid file names.
pub(super) fn socket_folder(home: &ClusterHome) -> Option<String> {
    let text = fs::read_to_string(home.pid_file()).ok()?;
    text.lines().nth(SOCKET_FOLDER_LINE).map(ToOwned::to_owned)
}

/// Removes what a dead postmaster left, so that a new one can start. Only under the start lock, or
/// with the users lock locked exclusively, and with a private socket folder.
pub(super) fn remove_stale_files(home: &ClusterHome, identity: &ProcessUsers) -> Result<(), Error> {
    kill_orphans(home);
    invalidate_pid_file(home, identity)?;
    remove_socket(home)
}

fn remove_socket(home: &ClusterHome) -> Result<(), Error> {
    let Some(socket) = home.socket() else { return Ok(()) };
    let lock = format!(".s.PGSQL.{PORT}.lock");
    for path in [socket.with_file_name(&lock), socket] {
        remove_file(&path)?;
    }
    Ok(())
}

/// Ends processes that outlived their postmaster: while one back end is busy no new postmaster
/// starts. What it committed is safe; its client gets an error for the rest.
pub(super) fn kill_orphans(home: &ClusterHome) {
    // After SIGQUIT, a postmaster whose files were removed still releases its shared memory.
    for (signal_name, patience) in [("QUIT", Duration::from_secs(1)), ("KILL", KILL_TIMEOUT)] {
        let found = orphans(home);
        if found.is_empty() {
            return;
        }
        signal(signal_name, &found);
        let started = Instant::now();
        while !orphans(home).is_empty() && started.elapsed() < patience {
            sleep(POLL_INTERVAL);
        }
    }
}

/// Removes the dead pid from `postmaster.pid`, which another program or a zombie may have by now.
/// The file must stay: its shared-memory line is how Postgres notices back ends that still run.
fn invalidate_pid_file(home: &ClusterHome, identity: &ProcessUsers) -> Result<(), Error> {
    let path = home.pid_file();
    let Ok(text) = fs::read(&path) else {
        return Ok(());
    };
    let Some(text) = with_invalid_pid(&text) else {
        return remove_file(&path);
    };
    // Written beside and moved, so that the file is whole at any moment and a link is not followed.
    let temporary = home.path().join("postmaster.pid.new");
    fs::write(&temporary, text).map_err(|e| Error::io("write", &temporary, e))?;
    identity.transfer_ownership(&temporary)?;
    fs::rename(&temporary, &path).map_err(|e| Error::io("replace", &path, e))
}

/// The pid file with a pid that no process can have; none if it is not even a pid file, such as
/// the empty one that a full disk leaves.
fn with_invalid_pid(text: &[u8]) -> Option<Vec<u8>> {
    parse_pid(text)?;
    let rest = text.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &text[end..]);
    Some([i32::MAX.to_string().as_bytes(), rest].concat())
}

fn parse_pid(text: &[u8]) -> Option<u32> {
    let line = text.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

fn has_ready_line(text: &[u8]) -> bool {
    text.trim_ascii_end().ends_with(b"\nready")
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Every process of the cluster.
fn orphans(home: &ClusterHome) -> Vec<u32> {
    let name = home.name();
    let processes = processes().into_iter();
    let named = processes.filter(|(_, line)| is_postmaster(line, name) || is_backend(line, name));
    named.map(|(pid, _)| pid).filter(|pid| may_belong_to(*pid, home)).collect()
}

/// Whether a process runs as the owner of the data: any user can give a process this name. Unknown
/// where the data does not exist.
fn may_belong_to(pid: u32, home: &ClusterHome) -> bool {
    fs::metadata(home.data()).map_or(true, |data| owner(pid) == Some(data.uid()))
}

/// Our own way of starting it, see `start`.
fn is_postmaster(line: &str, name: &str) -> bool {
    line.contains(&format!(" -c cluster_name={name} "))
}

/// The title that Postgres gives its other processes.
fn is_backend(line: &str, name: &str) -> bool {
    line.starts_with(&format!("postgres: {name}: "))
}

/// Sends a signal through the shell: the standard library has no call for it.
fn signal(name: &str, pids: &[u32]) {
    let mut command = clean_command(Path::new("/bin/sh"));
    command.args(["-c", "kill -s \"$0\" \"$@\"", name]);
    command.args(pids.iter().map(ToString::to_string));
    // A pid that has ended already is no error.
    drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
}

#[cfg(target_os = "linux")]
fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

#[cfg(target_os = "linux")]
fn owner(pid: u32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|process| process.uid())
}

#[cfg(not(target_os = "linux"))]
fn owner(pid: u32) -> Option<u32> {
    let output =
        clean_command(Path::new("ps")).args(["-o", "uid=", "-p", &pid.to_string()]).output();
    String::from_utf8_lossy(&output.ok()?.stdout).trim().parse().ok()
}

#[cfg(target_os = "linux")]
fn processes() -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(|pid| (pid, command_line(pid))).collect()
}

#[cfg(not(target_os = "linux"))]
fn command_line(pid: u32) -> String {
    let found = processes().into_iter().find(|(other, _)| *other == pid);
    found.map_or_else(String::new, |(_, line)| line)
}

#[cfg(not(target_os = "linux"))]
fn processes() -> Vec<(u32, String)> {
    let output = clean_command(Path::new("ps")).args(["-axww", "-o", "pid=,args="]).output();
    let text = output.map(|it| it.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(|line| line.trim_start().split_once(' '));
    lines.filter_map(|(pid, line)| Some((pid.parse().ok()?, format!("{line} ")))).collect()
}

#[cfg(test)]
mod tests {
    use super::{has_ready_line, is_backend, is_postmaster, with_invalid_pid};

    #[test]
    fn repairing_the_pid_file_changes_the_pid_alone() {
        let before = b"123\n/data\n1690000000\n5432\n/socket\n\n  786 0\nready   \n";
        let after = b"2147483647\n/data\n1690000000\n5432\n/socket\n\n  786 0\nready   \n";
        assert_eq!(with_invalid_pid(before).as_deref(), Some(&after[..]));
        assert_eq!(with_invalid_pid(after).as_deref(), Some(&after[..]));
        assert!(has_ready_line(after) && !has_ready_line(b"1\n/data\nstarting\n"));
        assert_eq!(with_invalid_pid(b"77").as_deref(), Some(&b"2147483647"[..]));
        assert_eq!(with_invalid_pid(b""), None);
        assert_eq!(with_invalid_pid(b"root:x:0\n1\n"), None);
    }

    #[test]
    fn only_postgres_itself_is_taken_for_postgres() {
        let postmaster = "/usr/lib/postgresql/15/bin/postgres -c cluster_name=tenantry-1 -D /x ";
        assert!(is_postmaster(postmaster, "tenantry-1"));
        assert!(!is_postmaster(postmaster, "tenantry-11"));
        assert!(!is_postmaster("", "tenantry-1"));
        assert!(is_backend("postgres: tenantry-1: checkpointer ", "tenantry-1"));
        assert!(!is_backend("postgres: tenantry-11: checkpointer ", "tenantry-1"));
        assert!(!is_backend("psql -h /tmp/tenantry-1 ", "tenantry-1"));
    }
}
