//! Filters split updates and keep kinds; projections may have no columns; what a table does not take is an error.

use arrow::array::{Int32Array, Int64Array};
use arrow::datatypes::{Field, Schema};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{Column, binary, lit};

use super::*;
use crate::runtime::harness::{changes, lines};

fn schema(nullable: bool) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(
        "n",
        DataType::Int64,
        nullable,
    )]))
}

fn numbers(values: Vec<Option<i64>>, kinds: Option<Vec<RowKind>>) -> ChangeBatch {
    changes(
        &schema(true),
        vec![Arc::new(Int64Array::from(values))],
        kinds,
    )
}

fn more_than(bound: i64) -> CalcStep {
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("n", 0));
    let bound = lit(ScalarValue::Int64(Some(bound)));
    CalcStep::Filter(binary(column, Operator::Gt, bound, &schema(true)).unwrap())
}

fn apply(steps: Vec<CalcStep>, batch: ChangeBatch) -> Vec<String> {
    let result = Calc::new(steps.into()).apply(batch).unwrap();
    lines(&result.into_iter().map(Ok).collect::<Vec<_>>())
}

#[test]
fn each_row_is_judged_by_itself_and_keeps_its_kind() {
    let values = vec![Some(5), Some(5), Some(1), Some(1), Some(6), Some(6), None];
    let kinds = vec![
        RowKind::Insert,
        RowKind::UpdateBefore,
        RowKind::UpdateAfter,
        RowKind::UpdateBefore,
        RowKind::UpdateAfter,
        RowKind::Delete,
        RowKind::Insert,
    ];
    let out = apply(vec![more_than(2)], numbers(values, Some(kinds)));
    assert_eq!(out, ["+I[5]", "-U[5]", "+U[6]", "-D[6]"]);
}

#[test]
fn steps_follow_each_other_and_stop_when_no_row_is_left() {
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("n", 0));
    let twice = binary(Arc::clone(&column), Operator::Plus, column, &schema(true)).unwrap();
    let double = CalcStep::Project {
        expressions: vec![twice],
        schema: schema(true),
    };
    let steps = vec![more_than(1), double, more_than(5)];
    assert_eq!(
        apply(
            steps.clone(),
            numbers(vec![Some(1), Some(2), Some(3)], None)
        ),
        ["+I[6]"]
    );
    assert!(apply(steps, numbers(vec![Some(1)], None)).is_empty());
}

#[test]
fn rows_without_columns_are_still_rows() {
    let nothing = CalcStep::Project {
        expressions: vec![],
        schema: Arc::new(Schema::empty()),
    };
    let batch = Calc::new([nothing].into())
        .apply(numbers(vec![Some(1), None], None))
        .unwrap();
    assert_eq!(batch.unwrap().rows.num_rows(), 2);
}

#[test]
fn a_table_gets_its_types_and_no_null_it_does_not_take() {
    let conform = |data_type, nullable| CalcStep::Conform {
        table: "t".into(),
        schema: Arc::new(Schema::new(vec![Field::new("m", data_type, nullable)])),
    };
    let calc = Calc::new([conform(DataType::Int32, true)].into());
    let batch = calc
        .apply(numbers(vec![Some(7), None], None))
        .unwrap()
        .unwrap();
    let column = batch
        .rows
        .column(0)
        .as_any()
        .downcast_ref::<Int32Array>()
        .unwrap();
    assert_eq!(column, &Int32Array::from(vec![Some(7), None]));
    assert!(
        calc.apply(numbers(vec![Some(1 << 40)], None)).is_err(),
        "does not fit"
    );
    let strict = Calc::new([conform(DataType::Int64, false)].into());
    let error = strict.apply(numbers(vec![None], None)).unwrap_err();
    assert_eq!(
        error.message,
        "column 'm' of table 't' is NOT NULL, but a null value is to be written into it"
    );
}
