//! The chassis around a real process: exit codes, probes, signals and the drain, as Kubernetes would see them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this file is tests, helpers included"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chassis-bell"));
    command.env_clear().current_dir(std::env::temp_dir());
    command
}

/// A process' end is no event one could wait for with a limit.
#[allow(clippy::disallowed_methods, reason = "there is no runtime to be blocked")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

struct Bell {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    admin: String,
}

impl Bell {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command().args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut bell = Self {
            child,
            lines,
            seen: Vec::new(),
            admin: String::new(),
        };
        let line = bell.wait_for("\"setting\":\"admin.listen\"");
        bell.admin = line["address"].as_str().unwrap().to_owned();
        bell
    }

    fn wait_for(&mut self, part: &str) -> Value {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return serde_json::from_str(&line).unwrap();
                    }
                }
                Err(_) => panic!("no line with {part}:\n{}", self.seen.join("\n")),
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: bell\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn code(mut self) -> Option<i32> {
        let deadline = PATIENCE.as_millis() / 10;
        for _ in 0..deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            pause();
        }
        panic!("it does not end:\n{}", self.seen.join("\n"));
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = command()
        .args(arguments)
        .env("CARILLON_BELL__SWNIG", "1s")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn wrong_settings_are_told_together_and_exit_with_64() {
    let (code, stdout, stderr) = output(&["--bell.swing", "long", "--bel.url=x"]);
    assert_eq!((code, stdout.as_str()), (Some(64), ""));
    assert_eq!(
        stderr,
        "3 mistakes in the settings:\n  \
         environment variable CARILLON_BELL__SWNIG: is not a setting; did you mean CARILLON_BELL__SWING?\n  \
         flag --bel.url: is not known; did you mean --bell.url?\n  \
         bell.swing (flag --bell.swing): `long`: expected a duration, such as `30s`, `500ms` or `1h 30m`\n"
    );
}

#[test]
fn settings_are_printed_with_sources_and_without_secrets() {
    let output = command()
        .args(["--print-settings", "--bell.url", "redis://:hunter2@h"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text.contains("bell.url = redis://:***@h") && text.contains("# flag --bell.url"),
        "{text}"
    );
    assert!(
        text.contains("# default of bell") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn probes_tell_the_truth_and_the_drain_waits_for_its_holders() {
    let mut bell = Bell::start(&["--bell.swing", "2s"]);
    bell.wait_for("\"setting\":\"bell.listen\"");
    while bell.get("/startupz").0 != 200 {}
    assert_eq!(bell.get("/livez"), (200, "ok\n".to_owned()));
    assert_eq!(
        bell.get("/readyz"),
        (200, "ok startup\nok drain\nok tuned\n".to_owned())
    );
    let (code, metrics) = bell.get("/metrics");
    assert_eq!(code, 200);
    assert!(metrics.contains("carillon_bell_rings_total 1") && metrics.contains("carillon_build_info{"));

    bell.signal("TERM");
    bell.wait_for("draining");
    let (code, body) = bell.get("/readyz?format=json");
    assert_eq!(code, 503);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["ready"], false);
    assert_eq!(body["checks"][1]["name"], "drain");
    assert_eq!(body["checks"][1]["ok"], false);
    assert_eq!(bell.get("/livez").0, 200, "a draining process is alive");
    bell.wait_for("swung out");
    let ended = bell.wait_for("\"message\":\"ended\"");
    assert_eq!(ended["code"], 0);
    assert_eq!(bell.code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut bell = Bell::start(&["--bell.swing", "10m", "--bell.drain.timeout=10m"]);
    bell.wait_for("\"setting\":\"bell.listen\"");
    bell.signal("INT");
    bell.wait_for("draining");
    bell.signal("TERM");
    bell.wait_for("a second signal");
    assert_eq!(bell.code(), Some(1));
}

#[test]
fn a_stuck_runtime_is_told_and_can_still_be_ended() {
    let mut bell = Bell::start(&["--bell.break", "stuck", "--bell.drain.timeout=10m"]);
    bell.wait_for("\"setting\":\"bell.listen\"");
    let stuck = std::iter::repeat_with(|| bell.get("/livez"))
        .find(|(code, _)| *code != 200)
        .unwrap();
    assert!(
        stuck.0 == 503 && stuck.1.starts_with("fail: the runtime has run nothing for"),
        "{stuck:?}"
    );
    bell.signal("TERM");
    bell.wait_for("draining");
    bell.signal("TERM");
    assert_eq!(bell.code(), Some(1));
}

#[test]
fn the_deadline_ends_a_drain_and_names_who_was_late() {
    let mut bell = Bell::start(&["--bell.swing", "10m", "--bell.drain.timeout", "200ms"]);
    bell.wait_for("\"setting\":\"bell.listen\"");
    bell.signal("TERM");
    let line = bell.wait_for("ended at the drain's deadline");
    assert!(line["error"].as_str().unwrap().contains("swinging"), "{line}");
    assert_eq!(bell.code(), Some(0));
}

#[test]
fn failures_and_panics_are_logged_and_exit_with_1() {
    let mut bell = Bell::start(&["--bell.break", "error"]);
    assert_eq!(
        bell.wait_for("\"message\":\"failed\"")["error"],
        "the rope is torn"
    );
    assert_eq!(bell.code(), Some(1));

    let mut bell = Bell::start(&["--bell.break", "panic"]);
    let line = bell.wait_for("\"message\":\"panic: the bell is cracked\"");
    assert!(line["location"].as_str().unwrap().contains("bell.rs"), "{line}");
    bell.signal("TERM");
    assert_eq!(bell.code(), Some(0), "a task's panic is not the process' end");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = command().args(["--admin.listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("set admin.listen to a free address"), "{stderr}");
}
