//! Waiting for a condition with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks `look` until it answers, for at most `limit`.
///
/// # Panics
/// When the limit passes: names `what` was waited for.
pub async fn until<T, F, L>(what: &str, limit: Duration, mut look: L) -> T
where
    F: Future<Output = Option<T>>,
    L: FnMut() -> F,
{
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
