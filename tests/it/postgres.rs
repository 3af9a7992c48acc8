//! The embedded Postgres: a running one is adopted, a killed one is restarted, an unused one stops,
//! and no other user can connect.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tenantry::postgres::{Cluster, ClusterSettings, Durability, Error, upgrade};

use crate::support::waiting::wait_until;

#[test]
fn concurrent_starts_share_one_postgres() {
    let folder = folder();
    let settings = settings(folder.path());
    let starts: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn({
                let settings = settings.clone();
                move || Cluster::start(&settings).unwrap()
            })
        })
        .collect();
    let clusters: Vec<Cluster> = starts.into_iter().map(|it| it.join().unwrap()).collect();

    let first = postmaster(&clusters[0]);
    for cluster in &clusters {
        assert_eq!(query(cluster, "select current_database()::text").unwrap(), "tenantry");
        assert_eq!(postmaster(cluster), first);
    }
}

#[test]
fn a_killed_postgres_is_restarted_with_its_data_while_it_is_in_use() {
    let folder = folder();
    let durability = Durability::Durable;
    let settings = ClusterSettings { durability, ..settings(folder.path()) };
    let cluster = Cluster::start(&settings).unwrap();
    query(&cluster, "create table kept as select 'kept'::text as it; select ''").unwrap();

    let killed = postmaster(&cluster);
    kill(&killed);
    wait_until("Postgres is back", || {
        query(&cluster, "select it from kept").is_ok_and(|it| it == "kept")
    });
    assert_ne!(postmaster(&cluster), killed);
}

#[test]
fn a_broken_cluster_is_reported_with_its_log_and_a_reused_pid_does_not_prevent_a_start() {
    let folder = folder();
    let settings = settings(folder.path());
    let cluster = Cluster::start(&settings).unwrap();
    let data = cluster.home().join("data");
    let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let log = cluster.home().join("postgres.log");
    stop(cluster);

    let (control, hidden) = (data.join("global/pg_control"), data.join("global/hidden"));
    fs::rename(&control, &hidden).unwrap();
    let message = Cluster::start(&settings).unwrap_err().to_string();
    assert!(message.contains("could not find the database system"), "{message}");
    assert!(message.contains(log.to_str().unwrap()), "{message}");
    fs::rename(&hidden, &control).unwrap();

    // As after a crash of the machine, when our process has the pid that Postgres had.
    let (_, rest) = pid_file.split_once('\n').unwrap();
    let reused = format!("{}\n{rest}", std::process::id());
    fs::write(data.join("postmaster.pid"), reused).unwrap();
    let cluster = Cluster::start(&settings).unwrap();
    assert_eq!(query(&cluster, "select 'here'").unwrap(), "here");
}

/// Settings with a home whose path is too long for a socket in it.
fn settings_with_long_path(folder: &Path) -> ClusterSettings {
    ClusterSettings { home: folder.join("long/".repeat(20)), ..settings(folder) }
}

/// The folder in which clients of the cluster look for its socket.
fn socket_folder(cluster: &Cluster) -> PathBuf {
    let url = cluster.url("tenantry").replace("%2F", "/");
    let (_, rest) = url.split_once("host=").unwrap();
    rest.split('&').next().unwrap().into()
}

#[test]
fn a_socket_that_another_user_created_at_our_path_is_not_adopted() {
    let folder = folder();
    let settings = settings_with_long_path(folder.path());
    let cluster = Cluster::start(&settings).unwrap();
    query(&cluster, "create table kept as select 'kept'::text as it; select ''").unwrap();
    let before = socket_folder(&cluster);
    assert!(before.starts_with("/tmp"), "{before:?}");
    let pid_file = cluster.home().join("data/postmaster.pid");
    let crashed = fs::read_to_string(&pid_file).unwrap();
    let (_, rest) = crashed.split_once('\n').unwrap();
    let crashed = format!("{}\n{rest}", i32::MAX);
    stop(cluster);

    // As after a crash of the machine: `/tmp` was emptied, and another user created the folder.
    fs::write(&pid_file, crashed).unwrap();
    fs::remove_dir_all(&before).unwrap();
    fs::create_dir(&before).unwrap();
    let _socket = UnixListener::bind(before.join(".s.PGSQL.5432")).unwrap();
    // Only root can change the owner. Otherwise the folder is open to all, which is rejected, too.
    let _ = std::os::unix::fs::chown(&before, Some(65534), Some(65534));
    let cluster = Cluster::start(&settings).unwrap();
    assert_ne!(socket_folder(&cluster), before);
    assert_eq!(query(&cluster, "select it from kept").unwrap(), "kept");
    let after = socket_folder(&cluster);
    let mode = fs::metadata(&after).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    fs::remove_dir_all(&before).unwrap();
    stop(cluster);
    fs::remove_dir_all(after).unwrap();
}

#[test]
fn a_postgres_with_a_long_home_path_is_adopted_and_restarted_with_the_same_socket_folder() {
    let folder = folder();
    let settings = settings_with_long_path(folder.path());
    let first = Cluster::start(&settings).unwrap();
    let socket_path = socket_folder(&first);
    // A previous version did not write this file.
    fs::remove_file(first.home().join("socket-folder")).unwrap();
    let second = Cluster::start(&settings).unwrap();
    assert_eq!(socket_folder(&second), socket_path);
    assert_eq!(postmaster(&second), postmaster(&first));

    kill(&postmaster(&second));
    fs::remove_dir_all(&socket_path).unwrap();
    wait_until("Postgres is back", || query(&second, "select 'here'").is_ok());
    assert_eq!(socket_folder(&second), socket_path);
    drop(first);
    second.remove().unwrap();
    assert!(!socket_path.exists(), "{socket_path:?}");
}

#[test]
fn a_socket_folder_that_is_open_to_others_is_rejected_by_name() {
    let folder = folder();
    let settings = settings(folder.path());
    stop(Cluster::start(&settings).unwrap());
    let socket = settings.home.join("socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    let message = Cluster::start(&settings).unwrap_err().to_string();
    assert!(message.contains("socket must be a folder of the user"), "{message}");
}

#[test]
fn data_that_a_postgres_in_another_container_uses_is_not_upgraded() {
    let folder = folder();
    let settings = settings(folder.path());
    stop(Cluster::start(&settings).unwrap());
    let version = settings.home.join("data/PG_VERSION");
    fs::write(version, "9\n").unwrap();
    // Only the socket of the other Postgres is visible: its pid belongs to another container.
    let _socket = UnixListener::bind(settings.home.join("socket/.s.PGSQL.5432")).unwrap();
    let done = upgrade(&settings, None, |_, _, _| -> Result<(), Error> { unreachable!() });
    assert!(matches!(done, Err(Error::InUse { .. })), "{done:?}");
}

#[test]
fn a_postgres_that_a_killed_upgrade_left_running_is_stopped_by_the_next_start() {
    let folder = folder();
    let settings = settings(folder.path());
    let cluster = Cluster::start(&settings).unwrap();
    query(&cluster, "create table kept as select 'kept'::text as it; select ''").unwrap();
    stop(cluster);
    let home = settings.home.with_file_name("postgres.upgrade-from");
    fs::create_dir(&home).unwrap();
    symlink(settings.home.join("data"), home.join("data")).unwrap();
    let isolated = Cluster::start(&ClusterSettings { home, ..settings.clone() }).unwrap();
    let left_running = postmaster(&isolated);
    drop(isolated);
    let cluster = Cluster::start(&settings).unwrap();
    assert_ne!(postmaster(&cluster), left_running);
    assert_eq!(query(&cluster, "select it from kept").unwrap(), "kept");
}

#[test]
fn postgres_shuts_down_cleanly_after_its_last_user() {
    let folder = folder();
    let settings = settings(folder.path());
    let (first, second) = (Cluster::start(&settings).unwrap(), Cluster::start(&settings).unwrap());
    drop(first);
    assert_eq!(query(&second, "select 'still here'").unwrap(), "still here");

    let log = second.home().join("postgres.log");
    stop(second);
    let log = fs::read_to_string(log).unwrap();
    assert!(log.trim_end().ends_with("database system is shut down"), "{log}");
}

#[test]
fn only_its_own_user_can_connect_and_only_through_the_socket() {
    let folder = folder();
    let cluster = Cluster::start(&settings(folder.path())).unwrap();
    for private in ["socket", "data"] {
        let mode = fs::metadata(cluster.home().join(private)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{private}");
    }
    assert_eq!(query(&cluster, "show listen_addresses").unwrap(), "");
}

#[test]
fn encoding_time_zone_and_collation_do_not_depend_on_the_machine() {
    let folder = folder();
    let cluster = Cluster::start(&settings(folder.path())).unwrap();
    for (setting, expected) in [
        ("show server_encoding", "UTF8"),
        ("show timezone", "UTC"),
        ("select datcollate::text from pg_database where datname = 'tenantry'", "C"),
    ] {
        assert_eq!(query(&cluster, setting).unwrap(), expected, "{setting}");
    }
}

#[test]
fn without_postgres_the_message_names_the_folder_and_how_to_install_it() {
    let folder = folder();
    let bin_dir = Some(PathBuf::from("/no/postgres/here"));
    let settings = ClusterSettings { bin_dir, ..settings(folder.path()) };
    let message = Cluster::start(&settings).unwrap_err().to_string();
    for part in ["/no/postgres/here", "apt install", "dnf install", "brew install", "PG_BIN_DIR"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

/// A folder that Postgres's unprivileged user can also reach when the tests run as root.
fn folder() -> TempDir {
    let open = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new()
        .prefix("postgres")
        .permissions(open)
        .tempdir_in(scratch_folder())
        .unwrap()
}

/// `/dev/shm` if it has a free GiB: memory makes a new cluster three times as fast.
fn scratch_folder() -> PathBuf {
    let df = Command::new("df").args(["-Pk", "/dev/shm"]).output();
    let table = df.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default();
    let free = table.lines().nth(1).and_then(|row| row.split_whitespace().nth(3)?.parse().ok());
    let in_memory = free.is_some_and(|kib: u64| kib > 1 << 20);
    if in_memory { PathBuf::from("/dev/shm") } else { std::env::temp_dir() }
}

fn settings(folder: &Path) -> ClusterSettings {
    ClusterSettings {
        home: folder.join(".tenantry/postgres"),
        bin_dir: None,
        durability: Durability::NonDurable,
        janitor_program: PathBuf::from(env!("CARGO_BIN_EXE_tenantry")),
    }
}

/// Runs statements; returns the text that the last one selects.
fn query(cluster: &Cluster, sql: &'static str) -> Result<String, sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect(&cluster.url("tenantry")).await?;
        let row = sqlx::raw_sql(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        sqlx::Row::try_get(&row, 0)
    })
}

fn postmaster(cluster: &Cluster) -> String {
    let text = fs::read_to_string(cluster.home().join("data/postmaster.pid")).unwrap();
    text.lines().next().unwrap().to_owned()
}

fn kill(pid: &str) {
    assert!(Command::new("sh").args(["-c", "kill -9 $0", pid]).status().unwrap().success());
}

/// Drops the last user of the cluster and waits until Postgres has ended.
fn stop(cluster: Cluster) {
    let pid_file = cluster.home().join("data/postmaster.pid");
    let socket = socket_folder(&cluster).join(".s.PGSQL.5432");
    drop(cluster);
    wait_until("Postgres has ended", || {
        !pid_file.exists() && UnixStream::connect(&socket).is_err()
    });
}
