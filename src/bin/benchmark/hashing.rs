//! Measures the rate at which the cores can hash passwords: Argon2 with the current parameters on
//! all cores, and nothing else.

use std::num::NonZero;
use std::thread::{self, ScopedJoinHandle, available_parallelism};
use std::time::Instant;

use crate::load::{LatencyRecorder, Measurement, MeasurementWindow};
use tenantry::app::password_hash::{StoredHash, create, new_blocks};
use tenantry::commands::Failure;
use tenantry::entropy::SystemEntropy;
use tenantry::error::{Error, Result};
use tenantry::model::secret::Secret;

/// Returns the number of cores, which is the number of hashing threads.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Verifies a password repeatedly, on one thread per core. Blocks.
///
/// # Errors
/// Internal if Argon2 fails.
pub(crate) fn measure(password: &str, window: MeasurementWindow) -> Result<Measurement, Failure> {
    let stored = create(&mut new_blocks(), &secret(password), &SystemEntropy)?;
    let micros = thread::scope(|scope| {
        let hash = || hash(password, &stored, window);
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(hash)).collect();
        let results = threads.into_iter().map(ScopedJoinHandle::join);
        let results =
            results.map(|it| it.map_err(|_| Error::internal("a hashing thread panicked"))?);
        results.collect::<Result<Vec<_>>>()
    });
    Ok(Measurement::new(micros?.concat(), window.duration))
}

fn hash(password: &str, stored: &str, window: MeasurementWindow) -> Result<Vec<u32>> {
    let (mut blocks, password) = (new_blocks(), secret(password));
    let stored = StoredHash::parse(stored)?;
    let mut recorder = LatencyRecorder::start(window);
    loop {
        let started = Instant::now();
        if !stored.matches(&mut blocks, &password)? {
            return Err(Error::internal("a hash does not match its password"));
        }
        if !recorder.record(started) {
            return Ok(recorder.micros());
        }
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}
