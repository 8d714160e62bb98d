//! Progress bars on standard error, if it is a terminal.

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// A progress bar that is cleared at its end, and hidden if standard error is not a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(length: u64) -> Progress {
        let style = ProgressStyle::with_template("   [{bar:40}] {msg}").expect("the template is valid");
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        Progress { bar: bar.with_style(style.progress_chars("=> ")).with_finish(ProgressFinish::AndClear) }
    }

    pub(super) fn show(&self, position: u64, message: String) {
        self.bar.set_message(message);
        self.bar.set_position(position);
    }
}

pub(super) fn sold(count: u64) -> String {
    format!("{} sold", HumanCount(count))
}

pub(super) fn looked_up(count: u64) -> String {
    format!("{} looked up", HumanCount(count))
}
