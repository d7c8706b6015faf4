//! Reading the log to its end, and appending to it.

use std::time::Duration;

use fleet::{Fleet, Timestamp, evolve};
use sqlx::{PgPool, QueryBuilder, Row as _, SqlitePool};

use super::row::Row;
use super::{Fact, Pool, Record, Store, StoreError, on_pool};

/// Rows read at once.
const PAGE: i64 = 8192;

/// Rows of one INSERT: powers of two, so that a few prepared statements serve every number of rows. SQLite takes at most
/// 32766 bound values, PostgreSQL 65535.
const LARGEST_INSERT: usize = 1024;

/// A server that accepted the connection and then hangs is as good as away.
const PATIENCE: Duration = Duration::from_secs(10);

/// The fleet as the log says it is.
#[derive(Debug)]
pub struct Loaded {
    pub fleet: Fleet,
    /// Of the last event.
    pub position: i64,
    /// Of the snapshot it was made from, if there was a good one.
    pub snapshot: Option<i64>,
}

impl Store {
    /// The fleet as the log has it: from the newest good snapshot and the events after it.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        self.load_until(i64::MAX).await
    }

    /// The fleet as it was after the event at `position`.
    pub async fn load_until(&self, position: i64) -> Result<Loaded, StoreError> {
        let mut loaded = self.load_snapshot(position).await?;
        loaded.position = self.replay(&mut loaded.fleet, loaded.position, position).await?;
        Ok(loaded)
    }

    /// Looks at every row up to `position`: that none is missing, unreadable or altered.
    pub(super) async fn check(&self, until: i64) -> Result<(), StoreError> {
        let mut position = 0;
        while position < until {
            let rows = self.rows(position, PAGE.min(until - position)).await?;
            if rows.is_empty() {
                return Err(StoreError::Hole { after: position, found: until });
            }
            for row in rows {
                position = next(position, row)?.position;
            }
        }
        Ok(())
    }

    /// Folds the events after `position`, up to and including `until`, into `fleet`; returns the last one's position.
    pub(super) async fn replay(
        &self,
        fleet: &mut Fleet,
        mut position: i64,
        until: i64,
    ) -> Result<i64, StoreError> {
        loop {
            let rows = self.rows(position, PAGE.min(until - position)).await?;
            let full = rows.len() as i64 == PAGE;
            for row in rows {
                let record = next(position, row)?;
                evolve(fleet, &record.event);
                position = record.position;
            }
            if !full || position >= until {
                return Ok(position);
            }
        }
    }

    /// At most `limit` events after position `after`; checked.
    pub async fn read(&self, after: i64, limit: u32) -> Result<Vec<Record>, StoreError> {
        let mut position = after;
        let mut records = Vec::new();
        for row in self.rows(after, i64::from(limit)).await? {
            let record = next(position, row)?;
            position = record.position;
            records.push(record);
        }
        Ok(records)
    }

    /// The events of one subject and noun, oldest first; each is checked by itself.
    pub async fn read_of(&self, subject: &str, noun: &str) -> Result<Vec<Record>, StoreError> {
        const ROWS: &str = "SELECT position, at, actor, subject, kind, version, body, command, sum
                            FROM event WHERE subject = $1 AND kind LIKE $2 ORDER BY position LIMIT 10000";
        let reading = async {
            on_pool!(&self.pool, pool => {
                let query = sqlx::query(ROWS).bind(subject).bind(format!("{noun}.%"));
                let rows = query.fetch_all(pool).await?;
                Ok(rows.into_iter().map(|row| Row {
                    position: row.get(0),
                    at: row.get(1),
                    actor: row.get(2),
                    subject: row.get(3),
                    kind: row.get(4),
                    version: row.get(5),
                    body: row.get(6),
                    command: row.get(7),
                    sum: row.get(8),
                }).collect::<Vec<Row>>())
            })
        };
        let rows = in_time(reading).await.map_err(|source| StoreError::of("read", source))?;
        rows.into_iter().map(Row::read).collect()
    }

    /// The position of the last event at or before `at`; 0 if there is none.
    pub async fn position_at(&self, at: Timestamp) -> Result<i64, StoreError> {
        // Times grow with positions, but for clocks that were set back; no index has to be kept for a rare question.
        let (mut before, mut after) = (0, self.end().await? + 1);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            let found: Option<i64> = on_pool!(&self.pool, pool => {
                sqlx::query_scalar("SELECT at FROM event WHERE position = $1").bind(middle).fetch_optional(pool).await
            })
            .map_err(|source| StoreError::of("read", source))?;
            let found = found.ok_or(StoreError::Hole { after: middle - 1, found: middle + 1 })?;
            if found <= at.0.cast_signed() { before = middle } else { after = middle }
        }
        Ok(before)
    }

    /// The position of the last event; 0 in an empty log.
    pub async fn end(&self) -> Result<i64, StoreError> {
        let end: Option<i64> = on_pool!(&self.pool, pool => {
            sqlx::query_scalar("SELECT max(position) FROM event").fetch_one(pool).await
        })
        .map_err(|source| StoreError::of("read", source))?;
        Ok(end.unwrap_or(0))
    }

    async fn rows(&self, after: i64, limit: i64) -> Result<Vec<Row>, StoreError> {
        const ROWS: &str = "SELECT position, at, actor, subject, kind, version, body, command, sum
                            FROM event WHERE position > $1 ORDER BY position LIMIT $2";
        let reading = async {
            on_pool!(&self.pool, pool => {
                let rows = sqlx::query(ROWS).bind(after).bind(limit).fetch_all(pool).await?;
                Ok(rows.into_iter().map(|row| Row {
                    position: row.get(0),
                    at: row.get(1),
                    actor: row.get(2),
                    subject: row.get(3),
                    kind: row.get(4),
                    version: row.get(5),
                    body: row.get(6),
                    command: row.get(7),
                    sum: row.get(8),
                }).collect())
            })
        };
        in_time(reading).await.map_err(|source| StoreError::of("read", source))
    }

    /// Appends `facts` after position `last` in one durable commit; all or none. Giving the same again after
    /// [`StoreError::Doubt`] cannot write them twice.
    pub async fn append(&self, last: i64, facts: &[Fact]) -> Result<(), StoreError> {
        let rows: Vec<Row> = (last + 1..)
            .zip(facts)
            .map(|(position, fact)| Row::new(position, fact))
            .collect::<Result<_, _>>()?;
        match &self.pool {
            Pool::Sqlite(pool) => append_to_sqlite(pool, &rows).await?,
            Pool::Postgres(pool) => append_to_postgres(pool, &rows).await?,
        }
        fail::fail_point!("append-committed");
        self.tell(last + rows.len() as i64);
        Ok(())
    }

    /// Whether the rows after `last` are `facts` as this process tried to append them.
    pub(crate) async fn are_there(&self, last: i64, facts: &[Fact]) -> Result<bool, StoreError> {
        let there = self.rows(last, facts.len() as i64).await?;
        let wanted: Vec<Row> = (last + 1..)
            .zip(facts)
            .map(|(position, fact)| Row::new(position, fact))
            .collect::<Result<_, _>>()?;
        Ok(there == wanted)
    }
}

async fn append_to_sqlite(pool: &SqlitePool, rows: &[Row]) -> Result<(), StoreError> {
    let written = |source| StoreError::of("written", source);
    // A plain BEGIN would lose its place to another process that writes.
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(written)?;
    fail::fail_point!("append-begun");
    let mut rest = rows;
    while !rest.is_empty() {
        let (rows, after) = rest.split_at(largest_insert(rest.len()));
        let mut insert = QueryBuilder::new(
            "INSERT INTO event (position, at, actor, subject, kind, version, body, command, sum) ",
        );
        insert.push_values(rows, |mut values, row| {
            values
                .push_bind(row.position)
                .push_bind(row.at)
                .push_bind(&row.actor)
                .push_bind(&row.subject)
                .push_bind(&row.kind)
                .push_bind(row.version)
                .push_bind(&row.body)
                .push_bind(&row.command)
                .push_bind(row.sum);
        });
        insert.build().execute(&mut *transaction).await.map_err(written)?;
        rest = after;
    }
    fail::fail_point!("append-inserted");
    transaction.commit().await.map_err(StoreError::of_commit)
}

/// One statement is a transaction of its own, and one round trip: whatever number of rows, and no BEGIN and COMMIT.
async fn append_to_postgres(pool: &PgPool, rows: &[Row]) -> Result<(), StoreError> {
    fn column<'r, T>(rows: &'r [Row], value: impl Fn(&'r Row) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    const INSERT: &str = "INSERT INTO event (position, at, actor, subject, kind, version, body, command, sum)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[],
                             $8::text[], $9::bigint[])";
    // Away, as long as nothing was sent.
    let mut connection = in_time(pool.acquire()).await.map_err(|source| StoreError::of("written", source))?;
    fail::fail_point!("append-begun");
    let insert = sqlx::query(INSERT)
        .bind(column(rows, |row| row.position))
        .bind(column(rows, |row| row.at))
        .bind(column(rows, |row| row.actor.as_str()))
        .bind(column(rows, |row| row.subject.as_str()))
        .bind(column(rows, |row| row.kind.as_str()))
        .bind(column(rows, |row| row.version))
        .bind(column(rows, |row| row.body.as_str()))
        .bind(column(rows, |row| row.command.as_deref()))
        .bind(column(rows, |row| row.sum));
    in_time(insert.execute(&mut *connection)).await.map_err(StoreError::of_commit)?;
    Ok(())
}

fn next(position: i64, row: Row) -> Result<Record, StoreError> {
    if row.position != position + 1 {
        return Err(StoreError::Hole { after: position, found: row.position });
    }
    row.read()
}

/// The largest power of two that is not more than `rows`.
pub(super) fn largest_insert(rows: usize) -> usize {
    (1 << rows.ilog2()).min(LARGEST_INSERT)
}

/// An answer that does not come is an error of the connection.
async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer from the database within {} s", PATIENCE.as_secs()),
        ))),
    }
}
