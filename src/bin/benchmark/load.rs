//! Generates load over a number of connections for a time, and measures it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::{Client, Request};
use tenantry::commands::Failure;

/// The duration of a measurement.
#[derive(Clone, Copy)]
pub(crate) struct MeasurementWindow {
    /// The time before the measurement, in which requests are sent but not measured.
    pub(crate) warm_up: Duration,
    /// The time that is measured.
    pub(crate) duration: Duration,
}

/// The result of a measurement.
#[derive(Clone, Default)]
pub(crate) struct Measurement {
    /// The number of requests per second.
    pub(crate) per_second: f64,
    /// The durations in microseconds, in ascending order.
    pub(crate) micros: Vec<u32>,
}

impl Measurement {
    /// Creates a measurement from the durations of requests that ended within the window.
    pub(crate) fn new(mut micros: Vec<u32>, duration: Duration) -> Self {
        micros.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "there are less than 2^52")]
        let per_second = micros.len() as f64 / duration.as_secs_f64();
        Self { per_second, micros }
    }

    /// Returns a percentile of the durations, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let index = (self.micros.len() * percent / 100).min(self.micros.len().saturating_sub(1));
        f64::from(self.micros.get(index).copied().unwrap_or_default()) / 1000.0
    }
}

/// Records requests that end within a window.
pub(crate) struct LatencyRecorder {
    begin: Instant,
    end: Instant,
    micros: Vec<u32>,
}

impl LatencyRecorder {
    /// Starts a window now.
    pub(crate) fn start(window: MeasurementWindow) -> Self {
        let begin = Instant::now() + window.warm_up;
        Self { begin, end: begin + window.duration, micros: Vec::new() }
    }

    /// Records a request that began at `started` and ends now. Returns whether the window
    /// continues.
    pub(crate) fn record(&mut self, started: Instant) -> bool {
        let ended = Instant::now();
        if ended >= self.begin && ended < self.end {
            let took = ended.duration_since(started).as_micros();
            self.micros.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
        ended < self.end
    }

    /// Returns the recorded durations.
    pub(crate) fn micros(self) -> Vec<u32> {
        self.micros
    }
}

/// Sends each of the requests repeatedly, on its own connection.
///
/// # Errors
/// A connection fails, or a response is unexpected. There is no result then.
pub(crate) async fn run_load(
    address: SocketAddr,
    requests: Vec<Request>,
    window: MeasurementWindow,
) -> Result<Measurement, Failure> {
    let mut clients = Vec::with_capacity(requests.len());
    for request in requests {
        clients.push((Client::connect(address).await?, request));
    }
    let mut tasks = JoinSet::new();
    for (mut client, request) in clients {
        let mut recorder = LatencyRecorder::start(window);
        tasks.spawn(async move {
            loop {
                let started = Instant::now();
                client.execute(&request).await?;
                if !recorder.record(started) {
                    return Ok::<_, Failure>(recorder.micros());
                }
            }
        });
    }
    let mut micros = Vec::new();
    while let Some(done) = tasks.join_next().await {
        micros.extend(done.map_err(std::io::Error::from)??);
    }
    Ok(Measurement::new(micros, window.duration))
}

/// Sends each request once, over this number of connections. Returns the bodies in any order.
///
/// # Errors
/// A connection fails, or a response is unexpected.
pub(crate) async fn execute_all(
    address: SocketAddr,
    requests: Vec<Request>,
    connections: usize,
) -> Result<Vec<Vec<u8>>, Failure> {
    let requests = Arc::new(std::sync::Mutex::new(requests));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let mut client = Client::connect(address).await?;
        let requests = Arc::clone(&requests);
        let next = move || requests.lock().ok()?.pop();
        tasks.spawn(async move {
            let mut bodies = Vec::new();
            while let Some(request) = next() {
                bodies.push(client.execute(&request).await?.to_vec());
            }
            Ok::<_, Failure>(bodies)
        });
    }
    let mut bodies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        bodies.extend(done.map_err(std::io::Error::from)??);
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_and_the_percentiles_follow_from_the_durations() {
        let measurement =
            Measurement::new((1..=200).map(|it| it * 1000).collect(), Duration::from_secs(2));
        assert!((measurement.per_second - 100.0).abs() < f64::EPSILON);
        assert!((measurement.percentile(50) - 101.0).abs() < f64::EPSILON);
        assert!((measurement.percentile(99) - 199.0).abs() < f64::EPSILON);
        assert!(Measurement::default().percentile(99).abs() < f64::EPSILON);
    }
}
