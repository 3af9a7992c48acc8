//! What the cores can hash: Argon2 with today's parameters on all of them, and nothing else.

use std::num::NonZero;
use std::thread::{self, ScopedJoinHandle, available_parallelism};
use std::time::Instant;

use crate::load::{LatencyRecorder, Measurement, MeasurementWindow};
use tenantry::app::password_hash::{StoredHash, create, new_blocks};
use tenantry::commands::Failure;
use tenantry::entropy::SystemEntropy;
use tenantry::error::{Error, Result};
use tenantry::model::secret::Secret;

/// How many threads hash.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Checks a password again and again, on a thread for each core. Blocks.
///
/// # Errors
/// Internal, should Argon2 not take its parameters.
pub(crate) fn measure(password: &str, span: MeasurementWindow) -> Result<Measurement, Failure> {
    let stored = create(&mut new_blocks(), &secret(password), &SystemEntropy)?;
    let micros = thread::scope(|scope| {
        let hash = || hash(password, &stored, span);
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(hash)).collect();
        let done = threads.into_iter().map(ScopedJoinHandle::join);
        let done = done.map(|it| it.map_err(|_| Error::internal("a hashing thread panicked"))?);
        done.collect::<Result<Vec<_>>>()
    });
    Ok(Measurement::new(micros?.concat(), span.duration))
}

fn hash(password: &str, stored: &str, span: MeasurementWindow) -> Result<Vec<u32>> {
    let (mut blocks, password) = (new_blocks(), secret(password));
    let stored = StoredHash::parse(stored)?;
    let mut watch = LatencyRecorder::start(span);
    loop {
        let began = Instant::now();
        if !stored.matches(&mut blocks, &password)? {
            return Err(Error::internal("a hash is not of its password"));
        }
        if !watch.record(began) {
            return Ok(watch.micros());
        }
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}
