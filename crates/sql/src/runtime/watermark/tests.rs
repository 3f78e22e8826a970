//! The greatest value so far, never backwards; nulls are errors.

use arrow::array::TimestampMillisecondArray;
use arrow::datatypes::{Field, Schema};
use datafusion_physical_expr::expressions::Column;

use super::*;
use crate::runtime::harness::{changes, stateless};

fn times(values: Vec<Option<i64>>) -> Result<ChangeBatch, i64> {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let schema = Arc::new(Schema::new(vec![Field::new("ts", time, true)]));
    Ok(changes(
        &schema,
        vec![Arc::new(TimestampMillisecondArray::from(values))],
        None,
    ))
}

fn assigner() -> WatermarkAssign {
    WatermarkAssign::new(WatermarkSpec {
        time_column: 0,
        expression: Arc::new(Column::new("ts", 0)),
    })
}

#[test]
fn watermarks_follow_their_batch_and_only_rise() {
    let events = vec![
        times(vec![Some(3), Some(9), Some(4)]),
        times(vec![Some(8)]),
        Err(1_000),
        times(vec![Some(10)]),
        Err(WATERMARK_MAX),
    ];
    let out = stateless(&mut assigner(), events).unwrap();
    let seen: Vec<_> = out
        .iter()
        .map(|event| event.as_ref().map(|b| b.rows.num_rows()).map_err(|w| *w))
        .collect();
    assert_eq!(
        seen,
        [Ok(3), Err(9), Ok(1), Ok(1), Err(10), Err(WATERMARK_MAX)]
    );
}

#[test]
fn a_null_event_time_is_an_error_that_names_the_column() {
    let error = stateless(&mut assigner(), vec![times(vec![Some(3), None])]).unwrap_err();
    assert!(
        error
            .message
            .starts_with("the event time column 'ts' is null"),
        "{error}"
    );
}
