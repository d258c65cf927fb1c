//! How much memory this process had at most.

use std::hint::black_box;

use anyhow::Context as _;

/// Begins to measure anew.
pub fn forget_peak() -> anyhow::Result<()> {
    let file = "/proc/self/clear_refs";
    std::fs::write(file, "5").with_context(|| format!("starting to measure memory by {file}"))
}

/// The most memory that this process has had at once since then, in MiB: servers and bench together.
pub fn peak_mib() -> anyhow::Result<f64> {
    status_mib("VmHWM:")
}

/// How much more memory this process had at most, in MiB, while something was made.
pub fn peak_of<T>(make: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    forget_peak()?;
    let before = status_mib("VmRSS:")?;
    let kept = black_box(make()?);
    let peak = peak_mib()?;
    drop(kept);
    Ok(peak - before)
}

fn status_mib(name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = value.and_then(|text| text.split_whitespace().next());
    let kib: f64 = kib
        .context("the kernel does not say how much memory is used")?
        .parse()?;
    Ok(kib / 1024.0)
}
