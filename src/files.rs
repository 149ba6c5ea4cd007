//! Reads the small files that the configuration names, with size limits, and replaces files atomically.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;

use zeroize::Zeroizing;

/// The maximum size of secrets, certificates and keys.
const MAX_SECRET: u64 = 1 << 20;

/// The maximum size of a configuration.
const MAX_TEXT: u64 = 16 << 20;

/// Reads a file that may contain a secret. The bytes are overwritten when dropped.
///
/// # Errors
/// Returns an error if the file cannot be read, is larger than a mebibyte, or is not a regular file: a device or a pipe
/// might never end.
pub fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    if !is_regular(path)? {
        return Err(Error::new(ErrorKind::InvalidInput, "it is no regular file: write what it should say into one"));
    }
    let mut content = Zeroizing::new(Vec::new());
    bounded(path, MAX_SECRET, &mut content)?;
    Ok(content)
}

/// Reads a configuration, which may come through a pipe.
///
/// # Errors
/// Returns an error if the file cannot be read, is larger than 16 MiB, or is not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    let mut content = Vec::new();
    bounded(path, MAX_TEXT, &mut content)?;
    String::from_utf8(content).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Returns whether the file is regular, so that it can be read more than once.
///
/// # Errors
/// Returns an error if the file does not exist.
pub fn is_regular(path: &Path) -> Result<bool> {
    Ok(fs::metadata(path)?.is_file())
}

/// Replaces the content of the file at `path` by `text` atomically, or creates the file. Readers see either the old or
/// the new content. Permissions are kept; a symbolic link is followed.
///
/// # Errors
/// Returns an error if the file cannot be written; it is unchanged then.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or(ErrorKind::IsADirectory)?);
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = write_new(&new, &path, text).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        // The new file may not exist. The original error is returned in any case.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(new: &Path, like: &Path, text: &str) -> Result<()> {
    let mut file = File::create_new(new)?;
    if let Ok(old) = fs::metadata(like) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn bounded(path: &Path, most: u64, content: &mut Vec<u8>) -> Result<()> {
    File::open(path)?.take(most + 1).read_to_end(content)?;
    if content.len() as u64 > most {
        let text = format!("it is larger than {} MiB, which no such file is", most >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_not_read_to_its_end() {
        let zero = Path::new("/dev/zero");
        for path in [zero, Path::new("/")] {
            assert!(secret(path).unwrap_err().to_string().starts_with("it is no regular file"));
        }
        assert!(text(zero).unwrap_err().to_string().contains("larger than 16 MiB"));
        assert_eq!(secret(Path::new("/proc/self/nothing")).unwrap_err().kind(), ErrorKind::NotFound);
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(text(&own).unwrap().as_bytes(), &secret(&own).unwrap()[..]);
    }
}
