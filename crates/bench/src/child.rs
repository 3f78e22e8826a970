//! An engine in a process of its own, which takes its turns like the others.
//!
//! Two libraries that want different features of a third cannot be in one program; so a build of this program with the one is asked to
//! serve by a build with the other. Over the pipe go whole rounds, not operations: a line that says what to do, the ids as 8 bytes each,
//! and a line that says what came of it. Both ends are this program, so what is wrong with a message ends the run.
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use crate::contender::{Contender, Drain};
use crate::engine::{Result, Setup};
use crate::measure::{Histogram, Spent};
use crate::work::{Outcome, Work};

/// An engine that another build of this program serves.
pub struct ChildProcess {
    name: &'static str,
    setup: Setup,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl ChildProcess {
    /// Starts `program serve name directory`.
    pub fn start(
        name: &'static str,
        program: &str,
        directory: PathBuf,
    ) -> Result<Box<dyn Contender>> {
        let mut process = Command::new(program)
            .args(["--serve", name, "--dir"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().ok_or("a child process has no input")?;
        let output = process
            .stdout
            .take()
            .ok_or("a child process has no output")?;
        Ok(Box::new(Self {
            name,
            setup: Setup::new(directory),
            process,
            input,
            output: BufReader::new(output),
        }))
    }

    fn ask(&mut self, request: &str, ids: &[u64]) -> Result<Outcome> {
        writeln!(self.input, "{request} {}", ids.len())?;
        for part in ids.chunks(8 << 10) {
            let bytes: Vec<u8> = part.iter().flat_map(|id| id.to_le_bytes()).collect();
            self.input.write_all(&bytes)?;
        }
        self.input.flush()?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        match answer.trim().split_once(' ') {
            Some(("ok", outcome)) => decode(outcome),
            Some(("error", why)) => Err(format!("{}: {why}", self.name).into()),
            _ => Err(format!("{} ended without an answer", self.name).into()),
        }
    }
}

impl Contender for ChildProcess {
    fn name(&self) -> &'static str {
        self.name
    }

    fn setup(&mut self) -> &mut Setup {
        &mut self.setup
    }

    fn open(&mut self) -> Result<()> {
        self.ask(&format!("open {}", self.setup.cache_bytes), &[])
            .map(drop)
    }

    fn work(&mut self, work: Work, ids: &[u64], budget: Duration, drain: Drain) -> Result<Outcome> {
        let (kind, version) = work.number();
        let budget = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        self.ask(
            &format!("work {kind} {version} {budget} {}", drain as u8),
            ids,
        )
    }

    fn warm(&mut self) -> Result<()> {
        self.ask("warm", &[]).map(drop)
    }

    fn close(&mut self) -> Result<()> {
        self.ask("close", &[]).map(drop)
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // It ends by itself when its input does; a process that hangs is not waited for.
        let _ = writeln!(self.input, "end 0");
        let _ = self.process.try_wait();
    }
}

/// Answers requests from standard input until there are no more.
pub fn serve(contender: &mut dyn Contender) -> Result<()> {
    let mut input = BufReader::new(std::io::stdin().lock());
    let mut line = String::new();
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 || line.starts_with("end ") {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((count, words)) = words.split_last() else {
            continue;
        };
        let mut bytes = vec![0; number::<usize>(count)? * 8];
        input.read_exact(&mut bytes)?;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        let ids: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
        let answer = match answer(contender, words, &ids) {
            Ok(outcome) => format!("ok {}", encode(&outcome)),
            Err(error) => format!("error {}", error.to_string().replace('\n', " ")),
        };
        println!("{answer}");
    }
}

fn answer(contender: &mut dyn Contender, words: &[&str], ids: &[u64]) -> Result<Outcome> {
    match words {
        ["open", cache] => {
            contender.setup().cache_bytes = number(cache)?;
            contender.open()?;
        }
        ["warm"] => contender.warm()?,
        ["close"] => contender.close()?,
        ["work", kind, version, budget, drain] => {
            let work = Work::from_number(number(kind)?, number(version)?)
                .ok_or("there is no such work")?;
            let drain = match *drain {
                "0" => Drain::No,
                "1" => Drain::Settle,
                _ => Drain::Flush,
            };
            return contender.work(work, ids, Duration::from_nanos(number(budget)?), drain);
        }
        _ => return Err(format!("{words:?} is not understood").into()),
    }
    Ok(Outcome::default())
}

fn number<T: FromStr>(word: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(word.parse()?)
}

fn encode(outcome: &Outcome) -> String {
    let spent = |s: &Spent| format!("{} {} {}", s.wall.as_nanos(), s.cpu.as_nanos(), s.written);
    format!(
        "{} {} {} {}",
        outcome.operations,
        spent(&outcome.spent),
        spent(&outcome.drain),
        outcome.latency.encode()
    )
}

fn decode(line: &str) -> Result<Outcome> {
    let numbers = line
        .split(' ')
        .map(number::<u64>)
        .collect::<Result<Vec<u64>>>()?;
    let [operations, a, b, c, d, e, f, latency @ ..] = numbers.as_slice() else {
        return Err("an outcome has too few numbers".into());
    };
    let spent = |wall: u64, cpu: u64, written: u64| Spent {
        wall: Duration::from_nanos(wall),
        cpu: Duration::from_nanos(cpu),
        written,
    };
    Ok(Outcome {
        operations: *operations,
        spent: spent(*a, *b, *c),
        drain: spent(*d, *e, *f),
        latency: Histogram::decode(latency),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_cross_the_pipe() {
        let mut outcome = Outcome {
            operations: 7,
            ..Outcome::default()
        };
        outcome.spent.wall = Duration::from_millis(5);
        outcome.drain.written = 9;
        outcome.latency.record(Duration::from_micros(3));
        let back = decode(&encode(&outcome)).unwrap();
        assert_eq!(
            (back.operations, back.spent.wall, back.drain.written),
            (7, outcome.spent.wall, 9)
        );
        assert_eq!(back.latency.quantile(0.5), outcome.latency.quantile(0.5));
        for (kind, version) in (0..10).map(|kind| (kind, 3)) {
            let work = Work::from_number(kind, version).unwrap();
            assert_eq!(work.number().0, kind);
        }
        assert!(Work::from_number(10, 0).is_none());
    }
}
