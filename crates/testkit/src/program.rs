//! A program that runs beside the gateway, as a process.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::PATIENCE;

/// A process whose log is read. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Program {
    /// Starts it, with nothing to read and its log kept.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        Self { child, log }
    }

    /// Waits until it logs something.
    pub async fn says(&mut self, what: &str) {
        let mut said = Vec::new();
        let found = async {
            while let Some(line) = self.log.next_line().await.expect("the log is text") {
                if line.contains(what) {
                    return true;
                }
                said.push(line);
            }
            false
        };
        let found = timeout(PATIENCE, found).await;
        assert_eq!(found, Ok(true), "{what}: {said:#?}");
    }

    /// SIGKILL, after which there is no such process.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Asks it to end, and gives what it ends with.
    pub async fn terminate(self) -> (Option<i32>, String) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").arg(pid).status();
        assert!(sent.is_ok_and(|status| status.success()));
        self.ends().await
    }

    /// The status it ends with, and what it has logged until then.
    pub async fn ends(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        let ended = async {
            while let Some(line) = self.log.next_line().await.expect("the log is text") {
                log.push_str(&line);
                log.push('\n');
            }
            self.child.wait().await.expect("it can be waited for")
        };
        let status = timeout(PATIENCE, ended).await.expect("it ends");
        (status.code(), log)
    }
}
