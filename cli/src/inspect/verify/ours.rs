//! Our own files: manifest, watermark, runs.

use oncelog::checkpoint::{ManifestState, Run, read_manifest};
use oncelog::error::{Error, Malformed};
use oncelog::format::manifest::{Manifest, RunRef};
use oncelog::format::names::{FileName, MANIFEST, WATERMARK, run_name};
use oncelog::format::watermark::{SLOT_COUNT, SLOT_SIZE, Slot};
use oncelog::types::LogPoint;

use super::claims::{About, Claim, ClaimedEnd, Claims};
use super::findings::{Findings, advice};
use crate::inspect::source::{Named, Source};

/// What the checks of our files gather.
struct Gather<'a, 'f> {
    source: &'a Source,
    claims: &'a mut Claims,
    findings: &'a mut Findings<'f>,
    ends: Vec<ClaimedEnd>,
}

/// Reads every file of ours; gives the log ends that they claim.
pub(super) fn files(
    source: &Source,
    files: &[Named],
    claims: &mut Claims,
    findings: &mut Findings<'_>,
) -> Result<Vec<ClaimedEnd>, Error> {
    let mut gather = Gather { source, claims, findings, ends: Vec::new() };
    let manifest = match read_manifest(&*source.storage, &source.dir)? {
        ManifestState::Present(manifest) => Some(manifest),
        ManifestState::Damaged(corruption) => {
            gather.findings.add_corruption(&corruption);
            None
        }
        ManifestState::Missing => None,
    };
    if let Some(manifest) = &manifest {
        gather.manifest(manifest, files);
    }
    if files.iter().any(|file| file.meaning == FileName::Watermark) {
        gather.slots(manifest.as_deref())?;
    }
    for file in files {
        if let FileName::Run(number) = file.meaning {
            gather.run(number, file, manifest.as_deref())?;
        }
    }
    Ok(gather.ends)
}

impl Gather<'_, '_> {
    fn manifest(&mut self, manifest: &Manifest, files: &[Named]) {
        let len = files.iter().find(|file| file.meaning == FileName::Manifest).map_or(0, |file| file.len);
        let file = self.claims.file(MANIFEST, advice::LOST_END);
        self.place(file, MANIFEST, "watermark", (0, len), &manifest.watermark);
        if let Some(end) = &manifest.clean_close {
            self.place(file, MANIFEST, "clean-close mark", (0, len), end);
        }
        for run in named_runs(manifest) {
            if !files.iter().any(|file| file.meaning == FileName::Run(run.number)) {
                let malformed = Malformed::new("run", 0, run_name(run.number), "no such file");
                self.findings.add(MANIFEST, malformed, 0, len, advice::RUN);
            }
        }
    }

    fn slots(&mut self, manifest: Option<&Manifest>) -> Result<(), Error> {
        let bytes = self.source.read(WATERMARK)?.unwrap_or_default();
        let whole = SLOT_COUNT * SLOT_SIZE;
        if bytes.len() != whole {
            let malformed = Malformed::new("length of the watermark", 0, whole, bytes.len());
            self.findings.add(WATERMARK, malformed, 0, bytes.len() as u64, advice::WATERMARK);
        }
        let file = self.claims.file(WATERMARK, advice::LOST_END);
        for (nth, page) in bytes.chunks(SLOT_SIZE).take(SLOT_COUNT).enumerate() {
            let (start, end) = ((nth * SLOT_SIZE) as u64, (nth * SLOT_SIZE + page.len()) as u64);
            match Slot::decode(page) {
                Ok(slot) => match manifest {
                    // A slot of another generation is void.
                    Some(manifest) if slot.generation == manifest.truncation_generation => {
                        self.place(file, WATERMARK, "watermark", (start, end), &slot.point);
                    }
                    Some(manifest) if slot.generation > manifest.truncation_generation => {
                        let expected =
                            format!("at most {}, as in the manifest", manifest.truncation_generation);
                        let malformed =
                            Malformed::new("truncation generation", 20, expected, slot.generation);
                        self.findings.add(WATERMARK, malformed, start, end, advice::WATERMARK);
                    }
                    _ => {}
                },
                // Never written.
                Err(_) if page.len() == SLOT_SIZE && page.iter().all(|byte| *byte == 0) => {}
                Err(malformed) => self.findings.add(WATERMARK, malformed, start, end, advice::WATERMARK),
            }
        }
        Ok(())
    }

    fn run(&mut self, number: u64, named: &Named, manifest: Option<&Manifest>) -> Result<(), Error> {
        let run = match Run::open_unnamed(&*self.source.storage, &self.source.dir, number) {
            Ok(run) => run,
            Err(error) => return self.damage(error),
        };
        let reference = run.reference();
        let wanted = manifest.and_then(|manifest| named_runs(manifest).find(|run| run.number == number));
        if let Some(wanted) = wanted.filter(|wanted| *wanted != reference) {
            let expected = format!("{:#010x}, as in the manifest", wanted.header_crc);
            let at = run.header().encoded_len().saturating_sub(4) as u64;
            let malformed =
                Malformed::new("header CRC", at, expected, format!("{:#010x}", reference.header_crc));
            self.findings.add(&named.name, malformed, 0, at + 4, advice::RUN);
        }
        // One that the manifest does not name is a leftover: it may speak of a log that was truncated since.
        let in_force = manifest.is_none() || wanted == Some(reference);
        let file = self.claims.file(&named.name, advice::RUN);
        let bytes = (0, named.len);
        if in_force {
            self.place(file, &named.name, "end of the run", (0, run.header().encoded_len() as u64), run.to());
        }
        for entry in run.entries() {
            let (producer, entry) = match entry {
                Ok(entry) => entry,
                Err(error) => return self.damage(error),
            };
            for batch in entry.batches().iter().filter(|_| in_force) {
                self.claims.push(Claim {
                    last_offset: batch.last_offset,
                    file,
                    bytes,
                    about: About::Producer {
                        producer,
                        epoch: entry.epoch,
                        first_offset: batch.first_offset,
                        last_sequence: Some(batch.last_sequence),
                    },
                });
            }
        }
        Ok(())
    }

    fn damage(&mut self, error: Error) -> Result<(), Error> {
        match error {
            Error::Corrupt(corruption) => {
                self.findings.add_corruption(&corruption);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// A place in the log that a file names, with the batch that ends there.
    fn place(&mut self, file: usize, name: &str, what: &'static str, bytes: (u64, u64), point: &LogPoint) {
        if let Some((_, fingerprint)) = point.last_batch {
            let about = About::Place { what, fingerprint };
            self.claims.push(Claim { last_offset: fingerprint.last_offset, file, bytes, about });
        }
        self.ends.push(ClaimedEnd { name: name.to_owned(), what, at: bytes.0, offset: point.offset });
    }
}

fn named_runs(manifest: &Manifest) -> impl Iterator<Item = RunRef> + '_ {
    manifest.chain.iter().chain(&manifest.previous_chain).copied()
}
