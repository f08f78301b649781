//! State that is put aside lies in files of the temporary folder, which are read where they lie: the system keeps of them in memory what it has room for.
//!
//! The files have no names, so they are gone with the process, however that ends.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use memmap2::Mmap;

use crate::StreamError;
use crate::budget::Aside;

/// The files of one pipeline.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    bytes: Arc<AtomicU64>,
}

/// A file that is read where it lies, and counted.
struct Mapped {
    map: Mmap,
    bytes: Arc<AtomicU64>,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.map.len() as u64, Ordering::Relaxed);
    }
}

impl Files {
    /// In this folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), bytes: Arc::default() }
    }

    fn written(&self, rows: &[RecordBatch]) -> std::io::Result<Option<Mapped>> {
        let Some(first) = rows.first() else { return Ok(None) };
        let other = |error: arrow::error::ArrowError| std::io::Error::other(error);
        let mut file = tempfile::tempfile_in(&self.folder)?;
        let mut writer = StreamWriter::try_new(BufWriter::new(&mut file), &first.schema()).map_err(other)?;
        for rows in rows {
            writer.write(rows).map_err(other)?;
        }
        writer.finish().map_err(other)?;
        writer.into_inner().map_err(other)?.flush()?;
        // SAFETY: the file has no name, so nobody else can open it, and it is not written to any more.
        let map = unsafe { Mmap::map(&file)? };
        self.bytes.fetch_add(map.len() as u64, Ordering::Relaxed);
        Ok(Some(Mapped { map, bytes: self.bytes.clone() }))
    }
}

impl Aside for Files {
    fn put(&self, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>, StreamError> {
        let failed = |error| StreamError::Aside { folder: self.folder.display().to_string(), error };
        let Some(mapped) = self.written(rows).map_err(failed)? else { return Ok(Vec::new()) };
        let mut buffer = Buffer::from(Bytes::from_owner(mapped));
        let mut decoder = StreamDecoder::new();
        let mut lying = Vec::with_capacity(rows.len());
        while let Some(rows) = decoder.decode(&mut buffer)? {
            lying.push(rows);
        }
        Ok(lying)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn rows_are_read_where_they_lie_until_they_are_dropped() {
        let files = Files::new(&std::env::temp_dir());
        let rows = |from: i64| {
            let numbers: ArrayRef = Arc::new((from..from + 10_000).map(|i| (i % 7 > 0).then_some(i)).collect::<Int64Array>());
            let texts: ArrayRef = Arc::new((from..from + 10_000).map(|i| Some(format!("text {i}"))).collect::<StringArray>());
            RecordBatch::try_from_iter([("numbers", numbers), ("texts", texts)]).unwrap()
        };
        let mut lying = files.put(&[rows(0), rows(5)]).unwrap();
        assert_eq!(lying, [rows(0), rows(5)]);
        assert!((300_000..600_000).contains(&files.bytes()), "{}", files.bytes());
        // Nothing was copied: the memory of a column is that of the file.
        let at = |rows: &RecordBatch| rows.column(0).to_data().buffers()[0].as_ptr() as usize;
        assert!(at(&lying[1]) > at(&lying[0]) && at(&lying[1]) - at(&lying[0]) < 400_000);
        lying.pop();
        assert!(files.bytes() > 0);
        drop(lying);
        assert_eq!(files.bytes(), 0);
        assert!(files.put(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Files::new(Path::new("/not/there")).put(&[RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()))]);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("/not/there") && text.contains("stream.spill_dir"), "{text}");
    }
}
