//! Plots as SVG: horizontal bars, and lines over time. Written by hand, since that is all there is to it.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::plan::Subject;
use super::results::Results;
use super::soak;
use super::table::figure;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 150.0;
const VALUES: f64 = 110.0;
const BAR: f64 = 22.0;
const STEP: f64 = 32.0;
const TOP: f64 = 64.0;

const OURS: &str = "#2f6fde";
const THEIRS: &str = "#9aa4b2";
const FLOOR: &str = "#d9a13b";

/// One bar.
struct Bar {
    label: String,
    value: f64,
    colour: &'static str,
}

/// Draws every plot there are numbers for.
///
/// # Errors
/// The folder cannot be written to.
pub(crate) fn write_all(results: &Results, folder: &Path) -> Result<()> {
    use Subject::{Append, AppendEach, Gateway, Nats, RedbRows, SendLoop, SocketIo, Ws, WsCorked};
    fs::create_dir_all(folder)?;
    let everyone = [Gateway, Ws, WsCorked, Nats, SocketIo, SendLoop];
    let disk = [
        ("acks", Gateway, "stack"),
        ("acks-key", Gateway, "stack, with keys"),
        ("disk", Append, "append"),
        ("disk", AppendEach, "append, 100 writes"),
        ("disk", RedbRows, "redb rows"),
    ];
    let of_scenario = |scenario, path: &str| {
        let bars = everyone.into_iter().filter_map(|subject| {
            let value = results.median(scenario, subject, path)?;
            Some(Bar {
                label: subject.name().to_owned(),
                value,
                colour: colour(subject),
            })
        });
        bars.collect::<Vec<_>>()
    };
    let plots = [
        (
            "hot",
            "Hot fan-out: 1000 subscribers, 32 messages unanswered",
            "deliveries a second, more is better",
            of_scenario("hot", "/deliveries_per_s"),
        ),
        (
            "hot-all",
            "Hot fan-out: 32 messages in flight until all have them",
            "deliveries a second, more is better",
            of_scenario("hot-all", "/deliveries_per_s"),
        ),
        (
            "cold",
            "Cold fan-out: 1000 subscribers, one message in flight",
            "deliveries a second, more is better",
            of_scenario("cold", "/deliveries_per_s"),
        ),
        (
            "open",
            "Open loop at 50,000 deliveries a second",
            "99th percentile from the due time in µs, less is better",
            of_scenario("open", "/latency/p99_us"),
        ),
        (
            "idle",
            "Memory of an idle connection",
            "server RSS in bytes, less is better",
            of_scenario("idle", "/rss_per_connection"),
        ),
        (
            "disk",
            "Durable answers: 100 rooms, 32 messages unanswered in each",
            "messages a second, more is better",
            disk.into_iter()
                .filter_map(|(scenario, subject, label)| {
                    let value = results.median(scenario, subject, "/messages_per_s")?;
                    Some(Bar {
                        label: label.to_owned(),
                        value,
                        colour: colour(subject),
                    })
                })
                .collect(),
        ),
    ];
    for (name, title, unit, bars) in plots {
        if !bars.is_empty() {
            fs::write(
                folder.join(format!("bench-{name}.svg")),
                bar_chart(title, unit, &bars),
            )?;
        }
    }
    Ok(())
}

/// Draws a soak over its time.
///
/// # Errors
/// The folder cannot be written to.
pub(crate) fn write_soak(soaked: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let points = |path: &str, scale: f64| -> Vec<(f64, f64)> {
        let points = soak::points(soaked, path).into_iter();
        points.map(|(at, value)| (at, value * scale)).collect()
    };
    let lines = [
        ("RSS in MiB", points("rss", 1.0 / 1024.0 / 1024.0)),
        ("fan-out p99, ms", points("fan_out_p99_us", 1e-3)),
        ("durable p99, ms", points("ack_p99_us", 1e-3)),
        ("page p99, ms", points("page_p99_us", 1e-3)),
    ];
    fs::write(folder.join("bench-soak.svg"), line_charts("Soak", &lines))?;
    Ok(())
}

fn colour(subject: Subject) -> &'static str {
    match subject {
        Subject::Gateway => OURS,
        Subject::SendLoop | Subject::Append | Subject::AppendEach | Subject::RedbRows => FLOOR,
        _ => THEIRS,
    }
}

fn head(height: f64, title: &str, unit: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" role=\"img\" aria-label=\"{title}\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"16\" font-weight=\"600\" fill=\"#1c2430\">{title}</text>\n\
         <text x=\"16\" y=\"47\" font-size=\"12\" fill=\"#5b6675\">{unit}</text>\n"
    )
}

fn bar_chart(title: &str, unit: &str, bars: &[Bar]) -> String {
    let height = TOP + STEP * bars.len() as f64 + 8.0;
    let most = bars
        .iter()
        .map(|bar| bar.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut out = head(height, title, unit);
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + STEP * index as f64;
        let text_y = y + BAR * 0.7;
        let width = ((WIDTH - LABELS - VALUES) * bar.value / most).max(1.0);
        out.push_str(&format!(
            "<text x=\"{label_x}\" y=\"{text_y}\" font-size=\"13\" text-anchor=\"end\" fill=\"#1c2430\">{label}</text>\n\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"3\" fill=\"{colour}\"/>\n\
             <text x=\"{value_x:.1}\" y=\"{text_y}\" font-size=\"12\" fill=\"#5b6675\">{value}</text>\n",
            label_x = LABELS - 10.0,
            label = bar.label,
            colour = bar.colour,
            value_x = LABELS + width + 8.0,
            value = figure(bar.value),
        ));
    }
    out.push_str("</svg>\n");
    out
}

/// One small chart under the other, over the same time.
fn line_charts(title: &str, charts: &[(&str, Vec<(f64, f64)>)]) -> String {
    const CHART: f64 = 90.0;
    const PITCH: f64 = 116.0;
    let height = TOP + PITCH * charts.len() as f64;
    let last = charts
        .iter()
        .flat_map(|(_, points)| points)
        .map(|point| point.0)
        .fold(1.0, f64::max);
    let mut out = head(
        height,
        title,
        &format!("over {last:.0} s; each scale starts at zero"),
    );
    for (index, (label, points)) in charts.iter().enumerate() {
        let bottom = TOP + PITCH * index as f64 + CHART;
        let most = points
            .iter()
            .map(|point| point.1)
            .fold(f64::MIN_POSITIVE, f64::max);
        let width = WIDTH - LABELS - 24.0;
        let path: Vec<String> = points
            .iter()
            .map(|(at, value)| {
                format!(
                    "{:.1},{:.1}",
                    LABELS + width * at / last,
                    bottom - CHART * value / most
                )
            })
            .collect();
        out.push_str(&format!(
            "<text x=\"{x}\" y=\"{y:.1}\" font-size=\"13\" text-anchor=\"end\" fill=\"#1c2430\">{label}</text>\n\
             <text x=\"{x}\" y=\"{under:.1}\" font-size=\"12\" text-anchor=\"end\" fill=\"#5b6675\">at most {most}</text>\n\
             <line x1=\"{LABELS}\" x2=\"{end:.1}\" y1=\"{bottom:.1}\" y2=\"{bottom:.1}\" stroke=\"#d5dae1\"/>\n\
             <polyline points=\"{path}\" fill=\"none\" stroke=\"{OURS}\" stroke-width=\"2\"/>\n",
            x = LABELS - 10.0,
            y = bottom - CHART / 2.0,
            under = bottom - CHART / 2.0 + 17.0,
            most = figure(most),
            end = LABELS + width,
            path = path.join(" "),
        ));
    }
    out.push_str("</svg>\n");
    out
}
