//! Writes of a connection, and how long its client may leave them unread.

use super::{Connection, Gone};
use crate::front::http::body::WHOLE_BYTES_MAX;

/// Responses are written once they have this many bytes, even if more responses are ready.
pub(super) const WRITE_BYTES: usize = WHOLE_BYTES_MAX;

impl Connection {
    /// Writes the whole output. Fails if the client reads nothing before the deadline.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.output.is_empty() {
            return Ok(());
        }
        let mut written = 0;
        while written < self.output.len() {
            self.deadline.write_until(self.deadline.now().after(self.front.timeouts.stalled));
            match self.stream.write(&self.output[written..]).await {
                Ok(count) if count > 0 => written += count,
                Ok(_) | Err(_) => return Err(Gone),
            }
        }
        self.deadline.clear();
        if self.refused > 0 {
            self.front.metrics.refusal_time.observe(self.read_at.elapsed(), self.refused);
            self.refused = 0;
        }
        let mut buffer = std::mem::take(&mut self.output);
        // A buffer that grew in a burst is freed.
        if buffer.capacity() <= WRITE_BYTES {
            buffer.clear();
            self.front.output.set(buffer);
        }
        Ok(())
    }
}
