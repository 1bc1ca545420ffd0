//! Runs a program for a command: without a shell, in a process group of its own, and not for ever.
//!
//! Its environment is what the configuration says and nothing else, its standard input is empty. When it is over, by
//! itself or not, everything that is left of its group is killed. A program that makes a session of its own leaves the
//! group; such a one must not be configured.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::config::Command;

/// How long output is waited for after the program has gone, when something that it started holds the pipe.
const GRACE: Duration = Duration::from_millis(100);

/// How a program came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, or by somebody else's signal.
    Exited(ExitStatus),
    /// It ran too long and was killed.
    TimedOut,
    /// It wrote too much and was killed.
    TooMuch,
}

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What it wrote to standard output and standard error, in the order that it did.
    pub(crate) output: Vec<u8>,
    /// How it ended.
    pub(crate) end: End,
}

/// A process group; whatever is left of it is killed on drop. The leader must not have been waited for before: until
/// then nobody else gets its number.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = kill_process_group(self.0, Signal::KILL) {
            // There is always the leader, dead or alive.
            tracing::error!(error = %error, "cannot kill a process group: {error}");
        }
    }
}

/// Runs a program with a user's arguments, which were checked. Dropping the future kills it.
///
/// # Errors
/// It cannot be started.
pub(crate) async fn run(command: &Command, words: &[&str]) -> io::Result<Outcome> {
    let (mut child, group, mut pipe) = start(command, words)?;
    let deadline = Instant::now() + command.timeout;
    let leader = group.0;
    // Without reaping it, so that its number stays its own until the group is killed.
    let mut exited = spawn_blocking(move || {
        waitid(
            WaitId::Pid(leader),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )
    });
    let mut output = Vec::new();
    let mut gone_at = None;
    let mut open = true;
    let mut end = None;
    while end.is_none() && (open || gone_at.is_none()) {
        let until = gone_at.map_or(deadline, |gone: Instant| deadline.min(gone + GRACE));
        tokio::select! {
            biased;
            () = sleep_until(until) => {
                if gone_at.is_some() {
                    break;
                }
                end = Some(End::TimedOut);
            }
            read = pipe.read_buf(&mut output), if open => {
                open = read? > 0;
                if output.len() > command.max_output {
                    output.truncate(command.max_output);
                    end = Some(End::TooMuch);
                }
            }
            waited = &mut exited, if gone_at.is_none() => {
                waited.map_err(io::Error::other)??;
                gone_at = Some(Instant::now());
            }
        }
    }
    drop(group);
    let status = child.wait().await?;
    Ok(Outcome {
        output,
        end: end.unwrap_or(End::Exited(status)),
    })
}

fn start(command: &Command, words: &[&str]) -> io::Result<(Child, Group, Receiver)> {
    let (reader, writer) = io::pipe()?;
    let reader = Receiver::from_owned_fd(reader.into())?;
    // The writing ends in this process go with the builder; the pipe's end is seen when the program's are closed.
    let child = tokio::process::Command::new(&command.program)
        .args(&command.args)
        .args(words)
        .env_clear()
        .envs(&command.env)
        .current_dir(&command.folder)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let leader = id.and_then(Pid::from_raw);
    let leader = leader.ok_or_else(|| io::Error::other("a program without a process id"))?;
    Ok((child, Group(leader), reader))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rustix::process::test_kill_process;

    use super::*;
    use crate::config::shell_for_tests;

    async fn run_script(script: &str) -> Outcome {
        run(&shell_for_tests(script, "10s"), &[]).await.unwrap()
    }

    fn text(outcome: &Outcome) -> &str {
        str::from_utf8(&outcome.output).unwrap()
    }

    async fn gone(pid: Pid) {
        let begun = Instant::now();
        // A zombie answers signals; whoever adopts it reaps it in a moment.
        let alive = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            test_kill_process(pid).is_ok() && stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        while alive() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{pid:?} lives");
            tokio::task::yield_now().await;
        }
    }

    fn pid(text: &str) -> Pid {
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn output_and_errors_come_in_their_order_and_the_status_with_them() {
        let outcome = run_script("echo one; echo two >&2; echo three; exit 3").await;
        assert_eq!(text(&outcome), "one\ntwo\nthree\n");
        assert!(matches!(outcome.end, End::Exited(status) if status.code() == Some(3)));
    }

    #[tokio::test]
    async fn a_program_gets_its_arguments_as_they_are_and_nothing_else() {
        let mut command = shell_for_tests("echo \"$#:$1:$2\"; env; pwd; cat", "10s");
        command.args.push("name".to_owned());
        command.env.insert("ONLY".to_owned(), "this".to_owned());
        command.folder = Path::new("/usr").to_owned();
        let outcome = run(&command, &["$(id)", "a b"]).await.unwrap();
        let mut lines: Vec<_> = text(&outcome).lines().collect();
        // The environment has no order, and the shell sets some of it.
        lines[1..].sort_unstable();
        lines.retain(|line| {
            !line.starts_with("PWD=") && !line.starts_with("_=") && !line.starts_with("SHLVL=")
        });
        assert_eq!(
            lines,
            ["2:$(id):a b", "/usr", "ONLY=this", "PATH=/usr/bin:/bin"]
        );
    }

    #[tokio::test]
    async fn a_program_that_runs_too_long_is_killed_with_its_children() {
        let command = shell_for_tests("sleep 1000 & echo $!; wait", "1s");
        let begun = Instant::now();
        let outcome = run(&command, &[]).await.unwrap();
        assert_eq!(outcome.end, End::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(8));
        gone(pid(text(&outcome))).await;
    }

    #[tokio::test]
    async fn a_program_that_writes_too_much_is_killed() {
        let outcome = run_script("while :; do echo yes; done").await;
        assert_eq!(outcome.end, End::TooMuch);
        assert_eq!(outcome.output.len(), 4096);
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_is_killed() {
        let begun = Instant::now();
        let outcome = run_script("sleep 1000 & echo $!").await;
        assert!(matches!(outcome.end, End::Exited(status) if status.success()));
        assert!(begun.elapsed() < Duration::from_secs(8));
        gone(pid(text(&outcome))).await;
    }

    #[tokio::test]
    async fn a_run_that_is_given_up_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!(
            "echo $$ > {0}.tmp; mv {0}.tmp {0}; sleep 1000",
            file.display()
        );
        let command = shell_for_tests(&script, "1000s");
        let started = async {
            loop {
                match fs::read_to_string(&file) {
                    Ok(text) => break pid(&text),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let leader = tokio::select! {
            outcome = run(&command, &[]) => panic!("{outcome:?}"),
            leader = started => leader,
        };
        gone(leader).await;
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_an_error() {
        let mut command = shell_for_tests("", "1s");
        command.program = Path::new("/nowhere/program").to_owned();
        assert!(run(&command, &[]).await.is_err());
    }
}
