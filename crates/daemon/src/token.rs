//! A bot's token, which stands in a file, since arguments and environments are seen by others.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// No token is longer.
const LONGEST: u64 = 4096;

/// A file does not hold a token.
#[derive(Debug, thiserror::Error)]
pub enum InvalidToken {
    /// It cannot be read.
    #[error("cannot read the token's file {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// Others may read it.
    #[error("{} can be read by others: chmod 600 it", .0.display())]
    Open(PathBuf),
    /// It holds something else.
    #[error("{} does not hold a token: one line without blanks", .0.display())]
    Malformed(PathBuf),
}

/// Reads a token from a file that holds nothing else.
///
/// # Errors
/// See [`InvalidToken`].
pub fn read_token(path: &Path) -> Result<String, InvalidToken> {
    let unreadable = |error| InvalidToken::Unreadable(path.to_owned(), error);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(InvalidToken::Open(path.to_owned()));
    }
    if metadata.len() > LONGEST {
        return Err(InvalidToken::Malformed(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(InvalidToken::Malformed(path.to_owned()));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_token_stands_alone_in_a_file_of_its_owner() {
        let (_folder, path) = written("stk_abc\n", 0o600);
        assert_eq!(read_token(&path).unwrap(), "stk_abc");
        let (_folder, path) = written("stk_abc\n", 0o640);
        assert!(matches!(read_token(&path), Err(InvalidToken::Open(_))));
        for text in ["", "\n", "two words", "two\nlines", &"x".repeat(5000)] {
            let (_folder, path) = written(text, 0o400);
            assert!(matches!(read_token(&path), Err(InvalidToken::Malformed(_))));
        }
        let missing = Path::new("/nowhere/token");
        assert!(matches!(
            read_token(missing),
            Err(InvalidToken::Unreadable(..))
        ));
    }
}
