//! Finds and stops Postgres processes, and removes the files of ended ones.
//!
//! A pid alone proves nothing: it may have been reused by another program, or be a zombie, which
//! Postgres itself regards as a running server. A process counts only if its command line contains
//! the name of the cluster, which a zombie's does not.

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

/// The interval for polling if there is no event to wait for.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The index of the line in the pid file that contains the folder of the socket.
const SOCKET_FOLDER_LINE: usize = 4;

/// The interval between attempts to connect to a Postgres. Each connection costs it a process.
const CONNECT_INTERVAL: Duration = Duration::from_millis(100);

/// The time that a killed process, or an unused Postgres, may take to end.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A running postmaster: Postgres's main process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Postmaster {
    pid: u32,
    /// Whether it accepts connections.
    pub(super) is_ready: bool,
}

/// Returns the running postmaster of this home, if there is one.
pub(super) fn postmaster(home: &ClusterHome) -> Option<Postmaster> {
    // Read once, because another postmaster may replace the file at any moment.
    let text = fs::read(home.pid_file()).ok()?;
    let pid = parse_pid(&text)?;
    let is_running = is_postmaster(&command_line(pid), home.name()) && may_belong_to(pid, home);
    is_running.then_some(Postmaster { pid, is_ready: has_ready_line(&text) })
}

/// Returns whether the pid file states that its postmaster accepts connections. That postmaster may
/// have ended.
pub(super) fn is_marked_ready(home: &ClusterHome) -> bool {
    fs::read(home.pid_file()).is_ok_and(|text| has_ready_line(&text))
}

/// Sends the running postmaster the signal for a fast shutdown and waits until it has ended,
/// however long that takes, because it writes committed data to the disk.
pub(super) fn stop(home: &ClusterHome) {
    let Some(Postmaster { pid, .. }) = postmaster(home) else {
        return;
    };
    signal("INT", &[pid]);
    while is_postmaster(&command_line(pid), home.name()) {
        sleep(POLL_INTERVAL);
    }
}

/// Returns whether a Postgres accepts connections on the socket of this home. It may run in another
/// container.
pub(super) fn accepts_connections(home: &ClusterHome) -> bool {
    home.socket().is_some_and(|socket| UnixStream::connect(socket).is_ok())
}

/// Waits until no Postgres accepts connections on the socket of this home. Needed for a Postgres in
/// another container, which only the janitor there can stop.
pub(super) fn wait_until_unreachable(home: &ClusterHome) -> Result<(), Error> {
    let started = Instant::now();
    while accepts_connections(home) {
        if started.elapsed() > KILL_TIMEOUT {
            return Err(Error::InUse { home: home.path().to_owned() });
        }
        sleep(CONNECT_INTERVAL);
    }
    Ok(())
}

/// Removes a home whose Postgres has ended, and the folder of its socket.
pub(super) fn remove(home: &ClusterHome) -> Result<(), Error> {
    if let (None, Some(folder)) = (home.home_socket_folder(), home.socket_folder()) {
        // The folder stays if it contains other files.
        drop((remove_socket(home), fs::remove_dir(folder)));
    }
    fs::remove_dir_all(home.path()).map_err(|e| Error::io("remove", home.path(), e))
}

/// Returns the socket folder that the pid file contains.
pub(super) fn socket_folder(home: &ClusterHome) -> Option<String> {
    let text = fs::read_to_string(home.pid_file()).ok()?;
    text.lines().nth(SOCKET_FOLDER_LINE).map(ToOwned::to_owned)
}

/// Removes the processes and files that an ended postmaster left, so that a new one can start. The
/// caller must have acquired the start lock, or the users lock exclusively, and the socket folder
/// must be private.
pub(super) fn remove_stale_files(
    home: &ClusterHome,
    process_users: &ProcessUsers,
) -> Result<(), Error> {
    kill_orphans(home);
    invalidate_pid_file(home, process_users)?;
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

/// Ends the processes that outlived their postmaster, because no new postmaster starts while one of
/// them runs. Committed data is safe; clients of uncommitted work receive an error.
pub(super) fn kill_orphans(home: &ClusterHome) {
    // After QUIT, a postmaster whose files were removed still releases its shared memory.
    for (signal_name, max_wait) in [("QUIT", Duration::from_secs(1)), ("KILL", KILL_TIMEOUT)] {
        let pids = cluster_processes(home);
        if pids.is_empty() {
            return;
        }
        signal(signal_name, &pids);
        let started = Instant::now();
        while !cluster_processes(home).is_empty() && started.elapsed() < max_wait {
            sleep(POLL_INTERVAL);
        }
    }
}

/// Replaces the pid in `postmaster.pid`, which may now belong to a zombie or another program. The
/// file itself must stay: Postgres needs its shared-memory line to detect running back ends.
fn invalidate_pid_file(home: &ClusterHome, process_users: &ProcessUsers) -> Result<(), Error> {
    let path = home.pid_file();
    let Ok(text) = fs::read(&path) else {
        return Ok(());
    };
    let Some(text) = with_invalid_pid(&text) else {
        return remove_file(&path);
    };
    // Written to a temporary file and renamed, which is atomic and does not follow a link.
    let temporary = home.path().join("postmaster.pid.new");
    fs::write(&temporary, text).map_err(|e| Error::io("write", &temporary, e))?;
    process_users.transfer_ownership(&temporary)?;
    fs::rename(&temporary, &path).map_err(|e| Error::io("replace", &path, e))
}

/// Returns the pid file with a pid that no process can have; `None` if the text is not a pid file,
/// such as the empty file that a full disk leaves.
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

/// Returns the pid of every process of the cluster.
fn cluster_processes(home: &ClusterHome) -> Vec<u32> {
    let name = home.name();
    let processes = processes().into_iter();
    let of_cluster =
        processes.filter(|(_, line)| is_postmaster(line, name) || is_backend(line, name));
    of_cluster.map(|(pid, _)| pid).filter(|pid| may_belong_to(*pid, home)).collect()
}

/// Returns whether a process runs as the owner of the data, because other users can imitate the
/// command line. True if the data does not exist, so that its owner is unknown.
fn may_belong_to(pid: u32, home: &ClusterHome) -> bool {
    fs::metadata(home.data()).map_or(true, |data| owner(pid) == Some(data.uid()))
}

/// Returns whether the command line is the one that `launcher` starts a postmaster with.
fn is_postmaster(line: &str, name: &str) -> bool {
    line.contains(&format!(" -c cluster_name={name} "))
}

/// Returns whether the command line is the title that Postgres sets for its other processes.
fn is_backend(line: &str, name: &str) -> bool {
    line.starts_with(&format!("postgres: {name}: "))
}

/// Sends a signal with the shell's `kill`, because the standard library has no function for it.
fn signal(name: &str, pids: &[u32]) {
    let mut command = clean_command(Path::new("/bin/sh"));
    command.args(["-c", "kill -s \"$0\" \"$@\"", name]);
    command.args(pids.iter().map(ToString::to_string));
    // A failure means that a process has already ended, as intended.
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
    let process = processes().into_iter().find(|(other, _)| *other == pid);
    process.map_or_else(String::new, |(_, line)| line)
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
    fn invalidating_the_pid_file_changes_only_the_pid() {
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
    fn only_processes_of_the_cluster_are_recognized() {
        let postmaster = "/usr/lib/postgresql/15/bin/postgres -c cluster_name=tenantry-1 -D /x ";
        assert!(is_postmaster(postmaster, "tenantry-1"));
        assert!(!is_postmaster(postmaster, "tenantry-11"));
        assert!(!is_postmaster("", "tenantry-1"));
        assert!(is_backend("postgres: tenantry-1: checkpointer ", "tenantry-1"));
        assert!(!is_backend("postgres: tenantry-11: checkpointer ", "tenantry-1"));
        assert!(!is_backend("psql -h /tmp/tenantry-1 ", "tenantry-1"));
    }
}
