//! Load: so many connections for so long, and what came of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::{Client, Request};
use tenantry::commands::Failure;

/// How long something is done.
#[derive(Clone, Copy)]
pub(crate) struct MeasurementWindow {
    /// First, without being measured.
    pub(crate) warm_up: Duration,
    /// Then, measured.
    pub(crate) duration: Duration,
}

/// What came of one measurement.
#[derive(Clone, Default)]
pub(crate) struct Measurement {
    /// How many were done a second.
    pub(crate) per_second: f64,
    /// The durations in microseconds, the shortest first.
    pub(crate) micros: Vec<u32>,
}

impl Measurement {
    /// Creates a measurement from the durations of requests that ended within the window.
    pub(crate) fn new(mut micros: Vec<u32>, window: Duration) -> Self {
        micros.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "there are less than 2^52")]
        let per_second = micros.len() as f64 / window.as_secs_f64();
        Self { per_second, micros }
    }

    /// Returns a percentile of the durations, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.micros.len() * percent / 100).min(self.micros.len().saturating_sub(1));
        f64::from(self.micros.get(at).copied().unwrap_or_default()) / 1000.0
    }
}

/// Records requests that end within a window.
pub(crate) struct LatencyRecorder {
    begin: Instant,
    end: Instant,
    micros: Vec<u32>,
}

impl LatencyRecorder {
    /// A watch of a span that begins now.
    pub(crate) fn start(span: MeasurementWindow) -> Self {
        let begin = Instant::now() + span.warm_up;
        Self { begin, end: begin + span.duration, micros: Vec::new() }
    }

    /// Records a request that ends now; returns whether the window goes on.
    pub(crate) fn record(&mut self, began: Instant) -> bool {
        let ended = Instant::now();
        if ended >= self.begin && ended < self.end {
            let took = ended.duration_since(began).as_micros();
            self.micros.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
        ended < self.end
    }

    /// Returns the recorded durations.
    pub(crate) fn micros(self) -> Vec<u32> {
        self.micros
    }
}

/// Sends each of the requests repeatedly on a connection of its own.
///
/// # Errors
/// The first unexpected response: then nothing was measured.
pub(crate) async fn run_load(
    address: SocketAddr,
    requests: Vec<Request>,
    span: MeasurementWindow,
) -> Result<Measurement, Failure> {
    let mut clients = Vec::with_capacity(requests.len());
    for request in requests {
        clients.push((Client::connect(address).await?, request));
    }
    let mut tasks = JoinSet::new();
    for (mut client, request) in clients {
        let mut watch = LatencyRecorder::start(span);
        tasks.spawn(async move {
            loop {
                let began = Instant::now();
                client.execute(&request).await?;
                if !watch.record(began) {
                    return Ok::<_, Failure>(watch.micros());
                }
            }
        });
    }
    let mut micros = Vec::new();
    while let Some(done) = tasks.join_next().await {
        micros.extend(done.map_err(std::io::Error::from)??);
    }
    Ok(Measurement::new(micros, span.duration))
}

/// Sends each request once, over so many connections, and returns the bodies in any order.
///
/// # Errors
/// The first unexpected response.
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
    fn half_took_the_median_at_most_and_nearly_all_the_99th() {
        let measured =
            Measurement::new((1..=200).map(|it| it * 1000).collect(), Duration::from_secs(2));
        assert!((measured.per_second - 100.0).abs() < f64::EPSILON);
        assert!((measured.percentile(50) - 101.0).abs() < f64::EPSILON);
        assert!((measured.percentile(99) - 199.0).abs() < f64::EPSILON);
        assert!(Measurement::default().percentile(99).abs() < f64::EPSILON);
    }
}
