//! What a package installs beside the binary, made from the command line itself so that it cannot say otherwise: the man
//! page and the completions of shells.

use std::io::{self, Write};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::Cli;

const DESCRIPTION: &str = "People chat from the browser over WebSocket; programs on the same machine attach by a local \
    socket; every message is on disk before it is acknowledged, numbered, and can be resumed from any point. Without a \
    command the gateway is started. The other commands look after it: over its local socket while it runs, on its file \
    while it does not. Only its own user and root may.";

/// What the page says besides the commands: a heading, and under it terms with what is to know of them.
const SECTIONS: [(&str, &[(&str, &str)]); 4] = [
    (
        "FILES",
        &[
            (
                "./stack.toml",
                "Settings, unless --config or STACK_CONFIG names another file. The Debian package has them in \
                 /etc/stack/stack.toml.",
            ),
            (
                "./data/",
                "The database file stack.redb, the keys beside it, and gateway.sock, by which programs on this machine \
                 and these commands reach a gateway that runs. data_dir names another folder; the Debian package has it \
                 in /var/lib/stack.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "STACK_CONFIG",
                "The file of settings; the flag --config counts more.",
            ),
            (
                "STACK_*",
                "Every setting, such as STACK_LISTEN; 'stack-gateway config reference' lists them. They lie over the file \
                 and under the flags.",
            ),
            (
                "NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS",
                "What systemd sets: the gateway says when it serves, beats for the watchdog, and takes sockets that are \
                 open already in place of those of the setting listen.",
            ),
        ],
    ),
    (
        "SIGNALS",
        &[
            (
                "SIGTERM, SIGINT",
                "Goes down: nothing new is accepted, clients are told when to come back, what they have sent is answered. \
                 After shutdown.deadline_s whoever is left is cut off. A second signal ends at once; what was acknowledged \
                 is on disk either way.",
            ),
            ("SIGHUP", "Reads again what can be read again."),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "Done."),
            ("1", "Refused or failed."),
            ("2", "A wrong command line or configuration."),
        ],
    ),
];

/// Writes the man page.
///
/// # Errors
/// It cannot be written.
pub fn write_man_page(out: &mut dyn Write) -> io::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let man = Man::new(command.clone()).manual("Stack");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    let mut page = Roff::new();
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(DESCRIPTION)]);
    page.to_writer(out)?;
    man.render_options_section(out)?;
    let mut page = Roff::new();
    page.control("SH", ["COMMANDS"]);
    describe_all(&mut page, &command, "");
    for (heading, entries) in SECTIONS {
        page.control("SH", [heading]);
        for (term, text) in entries {
            page.control("TP", []);
            page.text([bold(*term)]);
            page.text([roman(*text)]);
        }
    }
    page.to_writer(out)
}

/// Writes the completions of a shell.
pub fn write_completions(shell: Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut Cli::command(), "stack-gateway", out);
}

/// Every command that does something, under its full name.
fn describe_all(page: &mut Roff, command: &Command, path: &str) {
    for command in command.get_subcommands().filter(|each| !each.is_hide_set()) {
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            describe_all(page, command, &path);
        } else {
            describe(page, command, path.trim_start());
        }
    }
}

fn describe(page: &mut Roff, command: &Command, path: &str) {
    let own = || {
        command
            .get_arguments()
            .filter(|arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help")
    };
    let mut usage = vec![bold(path)];
    for arg in own() {
        usage.push(roman(" "));
        usage.extend(bracketed(arg));
    }
    page.control("TP", []);
    page.text(usage);
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        page.text([roman(about.to_string())]);
    }
    page.control("RS", []);
    for arg in own() {
        let Some(help) = arg.get_long_help().or_else(|| arg.get_help()) else {
            continue;
        };
        page.control("TP", []);
        page.text(named(arg));
        page.text([roman(help.to_string())]);
    }
    page.control("RE", []);
}

/// An argument as in a synopsis.
fn bracketed(arg: &Arg) -> Vec<Inline> {
    if arg.is_required_set() {
        return named(arg);
    }
    let mut told = vec![roman("[")];
    told.extend(named(arg));
    told.push(roman("]"));
    told
}

fn named(arg: &Arg) -> Vec<Inline> {
    let mut told = Vec::new();
    if let Some(long) = arg.get_long() {
        told.push(bold(format!("--{long}")));
    }
    if arg.get_action().takes_values() {
        if !told.is_empty() {
            told.push(roman(" "));
        }
        let names = arg.get_value_names().unwrap_or_default();
        told.push(italic(names.join(" ")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        let mut page = Vec::new();
        write_man_page(&mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        for command in command.get_subcommands() {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                leaves(command, &path, found);
            } else {
                found.push(path.trim_start().to_owned());
            }
        }
    }

    #[test]
    fn the_man_page_has_every_command_and_flag() {
        let page = page();
        let mut commands = Vec::new();
        leaves(&Cli::command(), "", &mut commands);
        assert!(commands.len() > 15, "{commands:?}");
        for command in commands {
            let term = format!("\\fB{}\\fR", command.replace('-', "\\-"));
            assert!(page.contains(&term), "{command} is missing");
        }
        for flag in ["data\\-dir", "reset\\-second\\-factor", "origin", "config"] {
            assert!(page.contains(&format!("\\fB\\-\\-{flag}\\fR")), "{flag}");
        }
    }

    #[test]
    fn completions_know_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            write_completions(shell, &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {command}");
            }
        }
    }
}
