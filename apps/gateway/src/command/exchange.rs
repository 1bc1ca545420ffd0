//! `export` and `import`: rooms as JSON lines, out to a file and in from one, or in from a Slack export.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use stack_ipc::service::{Admin, Export, Import, ImportOptions, ImportReport};
use stack_storage::{place, sync_folder};
use stack_types::{ErrorCode, Problem, RoomId};

use super::progress::Progress;
use super::slack::{Left, Slack};
use super::{CommandError, Told, text};
use crate::cli::{ExportCommand, ImportCommand};
use crate::exchange::line::LINE_BYTES;

/// What is read, and given to the gateway, at once: it works on its thread for programs, which must not stand still.
const PIECE_BYTES: usize = 64 * 1024;

/// Standard input and output.
const STANDARD: &str = "-";

/// Writes rooms.
pub(super) async fn export<W: Write>(
    admin: &dyn Admin,
    command: ExportCommand,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let ExportCommand { rooms, all, output } = command;
    let rooms = rooms.iter().map(|room| room.parse::<RoomId>());
    let rooms: Vec<_> = rooms.collect::<Result<_, _>>()?;
    let output = (output != Path::new(STANDARD)).then_some(output);
    let mut file = output.map(NewFile::create).transpose()?;
    let mut export = admin.export((!all).then_some(rooms)).await?;
    match &mut file {
        Some(file) => {
            pump(&mut *export, &mut file.out, false).await?;
        }
        None => {
            // A terminal obeys what it is shown; a pipe gets the lines as they are.
            let is_shown = io::stdout().is_terminal();
            pump(&mut *export, told.out, is_shown).await?;
        }
    }
    let Some(file) = file else {
        return Ok(());
    };
    let (path, lines) = file.keep()?;
    let path = path.display().to_string();
    let json = json!({ "path": path, "bytes": lines });
    told.line(&format!("{path} has {lines} bytes"), &json)
}

async fn pump(
    export: &mut dyn Export,
    out: &mut impl Write,
    is_shown: bool,
) -> Result<(), CommandError> {
    // Where the lines themselves are shown they would be mixed.
    let progress = (!is_shown).then(|| Progress::count("events"));
    loop {
        let piece = export.next().await?;
        if piece.lines.is_empty() {
            return Ok(());
        }
        match is_shown {
            true => {
                for line in String::from_utf8_lossy(&piece.lines).lines() {
                    out.write_all(text::tame_json(line).as_bytes())?;
                }
            }
            false => out.write_all(&piece.lines)?,
        }
        if let Some(progress) = &progress {
            progress.at(piece.done, piece.total);
        }
    }
}

/// A file that is there when all of it is.
struct NewFile {
    path: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    is_kept: bool,
}

impl NewFile {
    fn create(path: PathBuf) -> Result<Self, CommandError> {
        if path.symlink_metadata().is_ok() {
            return Err(is_there(&path));
        }
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // What people have said is not for everybody on the machine.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .open(&part)
            .map_err(|source| file_error(&part, source))?;
        Ok(Self {
            path,
            part,
            out: BufWriter::new(file),
            is_kept: false,
        })
    }

    /// Gives it its name, which no other file has got meanwhile, and tells its length.
    fn keep(mut self) -> Result<(PathBuf, u64), CommandError> {
        let path = self.path.clone();
        let cannot = |source| file_error(&path, source);
        self.out.flush().map_err(cannot)?;
        let file = self.out.get_ref();
        file.sync_all().map_err(cannot)?;
        let bytes = file.metadata().map_err(cannot)?.len();
        place(&self.part, &self.path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => is_there(&self.path),
            _ => cannot(source),
        })?;
        self.is_kept = true;
        sync_folder(&self.path).map_err(cannot)?;
        Ok((path, bytes))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // What is no whole export is none. Nothing can be done where it stays.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn is_there(path: &Path) -> CommandError {
    let there = io::Error::new(io::ErrorKind::AlreadyExists, "it is there already");
    file_error(path, there)
}

fn file_error(path: &Path, source: io::Error) -> CommandError {
    CommandError::File {
        what: format!("cannot write {}", path.display()),
        source: source.into(),
    }
}

/// Takes rooms in.
pub(super) async fn import<W: Write>(
    admin: &dyn Admin,
    command: ImportCommand,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let options = ImportOptions {
        as_id: command.as_id,
        new_ids: command.new_ids,
        owner: command.owner,
        with_roles: command.with_roles,
        match_names: command.match_names,
    };
    let (report, left) = if command.slack {
        if command.from == Path::new(STANDARD) {
            let detail = "a Slack export is read from a file or a folder";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, detail).into());
        }
        let mut slack = Slack::open(&command.from, command.public)?;
        let mut import = admin.import(options).await?;
        let report = take_slack(&mut *import, &mut slack).await?;
        (report, slack.left().clone())
    } else {
        let (source, bytes) = open(&command.from)?;
        let mut import = admin.import(options).await?;
        let report = take_lines(&mut *import, source, bytes).await?;
        (report, Left::new())
    };
    tell(&report, &left, told)
}

fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>), CommandError> {
    if path == Path::new(STANDARD) {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let opened = File::open(path).and_then(|file| {
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    });
    let (file, bytes) = opened.map_err(|source| CommandError::File {
        what: format!("cannot read {}", path.display()),
        source: source.into(),
    })?;
    Ok((Box::new(file), Some(bytes)))
}

async fn take_lines(
    import: &mut dyn Import,
    mut source: Box<dyn Read>,
    bytes: Option<u64>,
) -> Result<ImportReport, CommandError> {
    let progress = Progress::bytes("read", bytes);
    let mut buffer = Vec::new();
    let mut lines = 0;
    loop {
        let before = buffer.len();
        buffer.resize(before + PIECE_BYTES, 0);
        let read = loop {
            match source.read(&mut buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let read = read.map_err(|source| CommandError::File {
            what: "cannot read on".to_owned(),
            source: source.into(),
        })?;
        buffer.truncate(before + read);
        let whole = match read {
            0 => buffer.len(),
            _ => buffer
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1),
        };
        // The gateway says the same of a line that it is given.
        if buffer.len() - whole > LINE_BYTES + 1 {
            let whole = buffer[..whole].iter().filter(|byte| **byte == b'\n');
            let line = lines + whole.count() as u64 + 1;
            return Err(CommandError::LongLine { line });
        }
        if whole > 0 {
            let rest = buffer.split_off(whole);
            let piece = std::mem::replace(&mut buffer, rest);
            lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
            import
                .lines(piece)
                .await
                .map_err(CommandError::NotImported)?;
        }
        progress.more(read as u64);
        if read == 0 {
            return finish(import).await;
        }
    }
}

async fn take_slack(
    import: &mut dyn Import,
    slack: &mut Slack,
) -> Result<ImportReport, CommandError> {
    let progress = Progress::count("days");
    while let Some(lines) = slack.next()? {
        for piece in pieces(lines) {
            import
                .lines(piece)
                .await
                .map_err(|problem| of_slack(slack, problem))?;
        }
        let (done, total) = slack.progress();
        progress.at(done, total);
    }
    finish(import).await
}

async fn finish(import: &mut dyn Import) -> Result<ImportReport, CommandError> {
    import.finish().await.map_err(|problem| match problem.code {
        // Where the gateway went away meanwhile, nobody knows.
        ErrorCode::Unavailable => CommandError::Refused(problem),
        _ => CommandError::NotImported(problem),
    })
}

/// A refusal names a line that nobody has seen; what it was made of is more of a help.
fn of_slack(slack: &Slack, mut problem: Problem) -> CommandError {
    if let Some(("line", rest)) = problem.detail.split_once(' ')
        && let Some((_, why)) = rest.split_once(": ")
    {
        problem.detail = why.to_owned().into();
    }
    CommandError::Converted {
        at: slack.at().to_owned(),
        problem,
    }
}

/// Whole lines, about as many as are given at once.
fn pieces(lines: Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    let mut pieces = VecDeque::new();
    let mut piece = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if !piece.is_empty() && piece.len() + line.len() > PIECE_BYTES {
            pieces.push_back(std::mem::take(&mut piece));
        }
        piece.extend_from_slice(line);
    }
    if !piece.is_empty() {
        pieces.push_back(piece);
    }
    pieces.into_iter()
}

fn tell<W: Write>(
    report: &ImportReport,
    left: &Left,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let rooms = report.rooms.iter().map(|room| {
        json!({
            "from": room.from,
            "id": room.id,
            "events": room.events,
            "has_owner": room.has_owner,
        })
    });
    let json = json!({
        "rooms": rooms.collect::<Vec<_>>(),
        "events": report.events,
        "matched": report.matched,
        "placeholders": report.placeholders,
        "left": left,
    });
    let mut lines = Vec::new();
    for room in &report.rooms {
        let name = match room.from == room.id.as_str() {
            true => room.from.clone(),
            false => format!("{} as {}", room.from, room.id),
        };
        let owner = match room.has_owner {
            true => "",
            false => ", without an owner who can sign in (see --owner)",
        };
        lines.push(format!("{name}: {} events{owner}", room.events));
    }
    let (matched, placeholders) = (report.matched, report.placeholders);
    let rooms = match report.rooms.len() {
        1 => "one room".to_owned(),
        rooms => format!("{rooms} rooms"),
    };
    lines.push(format!(
        "{rooms} with {} events came in; {matched} of the users have accounts here, {placeholders} got placeholders",
        report.events,
    ));
    if !left.is_empty() {
        lines.push("Not carried over as it was:".to_owned());
        lines.extend(left.iter().map(|(what, count)| format!("  {count} {what}")));
    }
    told.lines(&lines.join("\n"), &json)
}
