//! The cursors of `carillon tail`: where it is in each room, in memory and, if asked for, in a file.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf};

use anyhow::Context as _;
use carillon_model::Offset;

/// Room → the last offset that was printed.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    since: BTreeMap<String, String>,
    file: Option<PathBuf>,
    dirty: bool,
}

impl Cursors {
    /// What the file holds, if there is one already, and above it what the command line says.
    pub(super) fn load(file: Option<PathBuf>, given: &[(String, Offset)]) -> anyhow::Result<Self> {
        let mut since = BTreeMap::new();
        if let Some(file) = &file {
            let named = || format!("{}; remove it to begin anew", file.display());
            match std::fs::read(file) {
                Ok(text) => {
                    since = serde_json::from_slice(&text)
                        .with_context(|| format!("there are no cursors in {}", named()))?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", named())),
            }
        }
        since.extend(
            given
                .iter()
                .map(|(room, offset)| (room.clone(), offset.to_string())),
        );
        Ok(Self {
            since,
            file,
            dirty: false,
        })
    }

    pub(super) fn all(&self) -> &BTreeMap<String, String> {
        &self.since
    }

    pub(super) fn of(&self, room: &str) -> Option<&str> {
        self.since.get(room).map(String::as_str)
    }

    pub(super) fn moved(&mut self, room: &str, offset: &str) {
        // A session's own room ends with its connection.
        if !room.starts_with("session:") {
            self.since.insert(room.to_owned(), offset.to_owned());
            self.dirty = true;
        }
    }

    pub(super) fn forget(&mut self, room: &str) {
        self.dirty |= self.since.remove(room).is_some();
    }

    /// Writes the file anew if anything moved: whole, or not at all.
    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.dirty) else {
            return Ok(());
        };
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => std::path::Path::new("."),
        };
        let written = (|| {
            let mut new = tempfile::NamedTempFile::new_in(folder)?;
            new.write_all(&serde_json::to_vec(&self.since)?)?;
            new.persist(file)?;
            anyhow::Ok(())
        })();
        written.with_context(|| format!("cannot write the cursors to {}", file.display()))?;
        self.dirty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cursors.json");
        let mut cursors = Cursors::load(Some(file.clone()), &[]).unwrap();
        cursors.moved("lobby", "5-1");
        cursors.moved("session:x", "5-1");
        cursors.moved("attic", "5-2");
        cursors.forget("attic");
        cursors.save().unwrap();
        let given = [("attic".to_owned(), Offset::new(7, 0))];
        let again = Cursors::load(Some(file.clone()), &given).unwrap();
        assert_eq!(again.of("lobby"), Some("5-1"));
        assert_eq!(again.of("attic"), Some("7-0"));
        assert_eq!(again.all().len(), 2);
        std::fs::write(&file, "nonsense").unwrap();
        assert!(Cursors::load(Some(file), &[]).is_err());
    }
}
