//! `aquifer state sql`: queries over the states of a checkpoint, written as they come.

use aquifer::runner::RunError;

use super::arguments::SqlArguments;
use crate::cli::screen::Screen;

/// Runs the query.
#[cfg(not(feature = "state-sql"))]
pub fn run(_: &SqlArguments, _: &Screen) -> Result<(), RunError> {
    Err(super::usage(
        "this build of aquifer has no SQL over state: build it without --no-default-features, or use `aquifer state scan`"
            .to_owned(),
    ))
}

/// Runs the query.
#[cfg(feature = "state-sql")]
pub fn run(arguments: &SqlArguments, screen: &Screen) -> Result<(), RunError> {
    query::run(arguments, screen)
}

#[cfg(feature = "state-sql")]
mod query {
    use std::io::{ErrorKind as IoErrorKind, IsTerminal};

    use aquifer::runner::RunError;
    use aquifer_state_sql::output::{Format, RowWriter};
    use aquifer_state_sql::{ErrorKind, SqlError, StateQuery, StateSql, StateSqlOptions};
    use futures_util::StreamExt;

    use super::super::arguments::{SqlArguments, SqlFormat};
    use super::super::{Opened, failed, usage};
    use crate::cli::screen::{Rows, Screen};

    /// Runs the query.
    pub fn run(arguments: &SqlArguments, screen: &Screen) -> Result<(), RunError> {
        let opened = Opened::with_state(&arguments.checkpoint, arguments.expired)?;
        let options = StateSqlOptions {
            memory_bytes: bytes_of_mebibytes(arguments.memory),
            temporary_directory: arguments.temporary_directory.clone(),
            ..StateSqlOptions::default()
        };
        let sql = StateSql::new(&opened.reader, &options).map_err(|e| explained(&e))?;
        let format = match arguments.format {
            Some(SqlFormat::Table) => Format::Table,
            Some(SqlFormat::Json) => Format::Json,
            Some(SqlFormat::Csv) => Format::Csv,
            None if std::io::stdout().is_terminal() => Format::Table,
            None => Format::Json,
        };
        opened.runtime.block_on(async {
            let rows = sql.query(&arguments.query).await;
            print(rows.map_err(|e| explained(&e))?, format, screen).await
        })
    }

    async fn print(mut rows: StateQuery, format: Format, screen: &Screen) -> Result<(), RunError> {
        let out = Rows::new(screen.clone());
        let mut writer = RowWriter::new(out, format, &rows.schema());
        let mut error = None;
        while let Some(batch) = rows.next().await {
            let written = match batch {
                Ok(batch) => writer.write(&batch),
                Err(what) => {
                    error = Some(what);
                    break;
                }
            };
            match written {
                Ok(()) => {}
                // Whoever reads has seen enough.
                Err(error) if error.kind() == IoErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(unwritten(&error)),
            }
        }
        // What came before an error is true.
        match writer.finish() {
            Err(error) if error.kind() != IoErrorKind::BrokenPipe => Err(unwritten(&error)),
            _ => error.map_or(Ok(()), |error| Err(explained(&error))),
        }
    }

    fn unwritten(error: &std::io::Error) -> RunError {
        failed(format!("cannot write rows: {error}"))
    }

    fn explained(error: &SqlError) -> RunError {
        match error.kind {
            ErrorKind::Query => usage(error.message.clone()),
            ErrorKind::Resources => failed(format!("{}; see --memory", error.message)),
            ErrorKind::State => failed(error.message.clone()),
        }
    }

    fn bytes_of_mebibytes(mebibytes: u32) -> usize {
        usize::try_from(u64::from(mebibytes) << 20).unwrap_or(usize::MAX)
    }
}
