//! One line for each check.

use anyhow::Result;

/// Prints what was checked and counts what failed.
#[derive(Default)]
pub(crate) struct Verdicts {
    scene: String,
    passed: usize,
    failed: usize,
}

impl Verdicts {
    /// What the following checks are about.
    pub(crate) fn scene(&mut self, scene: impl Into<String>) {
        self.scene = scene.into();
    }

    /// Prints the verdict of one check; `Ok` holds what was counted.
    pub(crate) fn judge(&mut self, what: &str, found: Result<String>) {
        match found {
            Ok(counted) => {
                self.passed += 1;
                println!("ok    {}: {what} ({counted})", self.scene);
            }
            Err(why) => {
                self.failed += 1;
                println!("FAIL  {}: {what}: {why:#}", self.scene);
            }
        }
    }

    /// Number of checks that passed and that failed.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.passed, self.failed)
    }
}
