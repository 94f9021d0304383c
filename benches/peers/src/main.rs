//! Times a convolution in tilewise or in another library of crates.io. `tools/peers.py` starts a process for each library, ours
//! and the others', and lets them take turns.
//!
//! Usage: `tilewise-peers LIBRARY THREADS`. A line of JSON in, a line of JSON out, until the input ends:
//!
//! - `{"load": PROBLEM}`: reads the problem, packs its weights, computes it once. Answer: `{"values": [...]}`, the result at the
//!   positions asked for.
//! - `{"seconds": S}`: one call for warmth, then calls for so long, at least one. Answer: `{"ms": [...]}`, one for each.
//!
//! What fails answers `{"error": "..."}`.

mod peers;
mod problem;

use std::io::Write;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Whatever went wrong, in words.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A problem in the hands of a library.
trait Peer {
    /// Computes it once.
    fn call(&mut self) -> Result<()>;

    /// The result of the last call, dense and in row-major order.
    fn output(&self) -> Result<Vec<f32>>;
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Load(Problem),
    Seconds(f64),
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Values(Vec<f32>),
    Ms(Vec<f64>),
    Error(String),
}

fn main() -> Result<()> {
    let usage = "usage: tilewise-peers LIBRARY THREADS";
    let mut arguments = std::env::args().skip(1);
    let library = arguments.next().ok_or(usage)?;
    let threads = arguments.next().ok_or(usage)?.parse()?;
    peers::within(&library, threads, || serve(&library, threads))?.map_err(Into::into)
}

fn serve(library: &str, threads: usize) -> std::result::Result<(), String> {
    let mut peer = None;
    for line in std::io::stdin().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let answer =
            answer(library, threads, &mut peer, &line).unwrap_or_else(|e| Answer::Error(e.to_string()));
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &answer).map_err(|e| e.to_string())?;
        writeln!(out).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn answer(library: &str, threads: usize, peer: &mut Option<Box<dyn Peer>>, line: &str) -> Result<Answer> {
    match serde_json::from_str(line)? {
        Request::Load(problem) => {
            // The memory of the last problem goes first.
            *peer = None;
            let new = peer.insert(peers::load(library, &problem, threads)?);
            new.call()?;
            let output = new.output()?;
            let at = |&i: &usize| {
                output.get(i).copied().ok_or_else(|| format!("no position {i} in {}", output.len()))
            };
            Ok(Answer::Values(problem.at.iter().map(at).collect::<std::result::Result<_, _>>()?))
        }
        Request::Seconds(seconds) => {
            let peer = peer.as_mut().ok_or("nothing is loaded")?;
            peer.call()?;
            let (mut ms, start) = (Vec::new(), Instant::now());
            while ms.is_empty() || start.elapsed().as_secs_f64() < seconds {
                let before = Instant::now();
                peer.call()?;
                ms.push(before.elapsed().as_secs_f64() * 1e3);
            }
            Ok(Answer::Ms(ms))
        }
    }
}
