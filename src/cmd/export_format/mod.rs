//! Runs in the formats of other programs: OpenTelemetry, Prometheus, in-toto, JUnit. Each takes records one by one; what
//! it can write at once it writes, what needs all of them it keeps as sums.

mod intoto;
mod junit;
mod otlp;
mod prometheus;
mod xml;

use std::io::{self, Write};

use crate::model::RunRecord;
use crate::store::log::RunLog;
use crate::store::state_dir::StateDir;

pub use junit::{Named, run_report};

/// A format of another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// OTLP/JSON: one `TracesData` object per run and line, for the collector's `otlpjsonfile` receiver.
    Otlp,
    /// The text format of Prometheus, for the node exporter's textfile collector.
    Prometheus,
    /// in-toto Statement v1 with the predicate link v0.3: one per run and line.
    InToto,
    /// JUnit XML in the dialect of Jenkins.
    Junit,
}

/// An export being written. `line` is the record as it is stored, without its newline.
pub(super) trait Export {
    /// Takes the next run.
    fn add(&mut self, line: &[u8], record: &RunRecord, out: &mut dyn Write) -> io::Result<()>;
    /// Writes what is left.
    fn finish(self: Box<Self>, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Begins an export of runs of this log.
pub(super) fn begin(format: ExportFormat, log: &RunLog) -> Box<dyn Export> {
    // What stands in the runs' directories is left out where there is no state directory of this format.
    let state = log.path().parent().and_then(|path| StateDir::open(path).ok());
    match format {
        ExportFormat::Otlp => Box::new(otlp::Otlp),
        ExportFormat::Prometheus => Box::new(prometheus::Prometheus::new(state)),
        ExportFormat::InToto => Box::new(intoto::InToto::new(state)),
        ExportFormat::Junit => Box::new(junit::Junit::new(state)),
    }
}
