//! The benchmark runs to its end; what it measures is not checked.

use std::fs;

use crate::support::server::{WorkDir, signal};
use crate::support::tools;
use crate::support::waiting::wait_until;

#[test]
fn the_benchmark_prints_every_row_and_leaves_no_files_behind() {
    let dir = WorkDir::new();
    let folder = dir.path().to_str().unwrap();
    let mut command = dir.command_for(env!("CARGO_BIN_EXE_benchmark"), &[("TMPDIR", folder)]);
    let done = command.args(["--seconds=0.05", "--rounds=1"]).output().unwrap();
    let table = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{table}{}", String::from_utf8_lossy(&done.stderr));
    for program in ["pgbench", "nginx"] {
        let is_skipped = table.contains(&format!("there is no `{program}`"));
        if !tools::is_installed(program, !is_skipped) {
            return;
        }
    }
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
    let budgets = rows.iter().filter(|row| row.contains(['≥', '≤'])).count();
    assert_eq!((rows.len(), budgets), (16, 14), "{table}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn a_benchmark_that_is_terminated_leaves_no_files_behind() {
    let dir = WorkDir::new();
    let folder = dir.path().to_str().unwrap();
    let mut command = dir.command_for(env!("CARGO_BIN_EXE_benchmark"), &[("TMPDIR", folder)]);
    let mut benchmark = command.args(["--seconds=60"]).spawn().unwrap();
    let has_server = || {
        let mut entries = fs::read_dir(folder).unwrap();
        entries.any(|entry| entry.unwrap().path().join("server.log").exists())
    };
    wait_until("a server is started", has_server);
    signal("TERM", benchmark.id());
    assert_eq!(benchmark.wait().unwrap().code(), Some(1));
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}
