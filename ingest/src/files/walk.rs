//! The files of a folder of this machine, whatever they are called: a store gives up over the first name that is no text.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path as FsPath, PathBuf};

use object_store::ObjectMeta;
use object_store::path::Path;

/// A file, and where it lies below the folder.
pub(super) enum Walked {
    /// As a store would list it.
    Fine(ObjectMeta),
    /// One that no store can name: its path as it can be shown, and why.
    Odd(ObjectMeta, String, &'static str),
}

/// All files below `root`. Links are followed, but none that leads to a folder it is in; what is neither file nor folder is passed over.
pub(super) fn walk(root: &FsPath) -> io::Result<Vec<Walked>> {
    let mut found = Vec::new();
    let mut above = HashSet::from([root.canonicalize()?]);
    into(root, &mut Vec::new(), &mut above, &mut found)?;
    Ok(found)
}

/// `names` lead from the root to `folder`, and `above` are the folders that it is in, itself included.
fn into(folder: &FsPath, names: &mut Vec<Vec<u8>>, above: &mut HashSet<PathBuf>, found: &mut Vec<Walked>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // It went meanwhile, or is a link that leads nowhere, or in a circle.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied && entry.file_type()?.is_symlink() => continue,
            Err(error) => return Err(error),
        };
        names.push(bytes_of(&entry.file_name()));
        if metadata.is_dir() {
            let real = path.canonicalize()?;
            if above.insert(real.clone()) {
                into(&path, names, above, found)?;
                above.remove(&real);
            } else {
                tracing::debug!(path = %path.display(), "a link to a folder that it is in was passed over");
            }
        } else if metadata.is_file() {
            found.push(walked(names, &metadata)?);
        }
        names.pop();
    }
    Ok(())
}

fn walked(names: &[Vec<u8>], metadata: &fs::Metadata) -> io::Result<Walked> {
    let meta = |location| -> io::Result<ObjectMeta> {
        Ok(ObjectMeta { location, last_modified: metadata.modified()?.into(), size: metadata.len(), e_tag: None, version: None })
    };
    let path = names.join(&b'/');
    let why = match std::str::from_utf8(&path) {
        Ok(text) => match Path::parse(text) {
            Ok(location) if !is_staged(text) => return Ok(Walked::Fine(meta(location)?)),
            Ok(_) => "its name ends in # and a number, as those of unfinished files do",
            Err(_) => "its name holds characters that cannot be shown",
        },
        Err(_) => "its name is not UTF-8",
    };
    Ok(Walked::Odd(meta(Path::default())?, path.escape_ascii().to_string(), why))
}

/// Whether a local store takes a file of this name for one of its own that is not finished.
fn is_staged(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(unix)]
fn bytes_of(name: &OsStr) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(name).to_vec()
}

#[cfg(not(unix))]
fn bytes_of(name: &OsStr) -> Vec<u8> {
    name.to_string_lossy().into_owned().into_bytes()
}
