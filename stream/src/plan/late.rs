//! Rows that come too late: set aside before the first exchange, in one table for all sources.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use super::build::Builder;
use crate::operators::late::{self, Deadline, Late};
use crate::spec::{Expression, LateBy, StepSpec, v1};

impl Builder<'_> {
    /// Sets late rows aside; only possible, and only needed, before the first exchange.
    pub(super) fn divert_late(&mut self, column: usize, deadline: Deadline) {
        if self.has_crossed() {
            return;
        }
        let schema = self.input_schema();
        self.add_late(&late::side_schema(&schema, &self.names));
        let name = schema.field(column).name().clone();
        let by = match deadline {
            Deadline::At => LateBy::Window,
            Deadline::After => LateBy::Time,
        };
        let spec = StepSpec::Late { by, deadline: Expression::column(column, &name) };
        let names = self.names.clone();
        self.push(spec, v1::late(deadline, &name), move || Ok(Box::new(Late::new(column, deadline, schema.clone(), names.clone()))));
    }

    /// Lets the table of late rows have these columns, too: those that not all rows have may be NULL.
    fn add_late(&mut self, schema: &SchemaRef) {
        let Some(known) = self.late_schema.take() else {
            self.late_schema = Some(schema.clone());
            return;
        };
        self.late_mixed |= known != *schema;
        // Where a row came from, and the watermark, come last.
        let after = self.names.fields(true).len() + 1;
        let visible = |schema: &SchemaRef| schema.fields()[..schema.fields().len() - after].to_vec();
        let (mut fields, added) = (visible(&known), visible(schema));
        for field in &mut fields {
            match added.iter().find(|other| other.name() == field.name()) {
                Some(other) if other.data_type() != field.data_type() => self.late_conflict = Some(field.name().clone()),
                Some(other) if other.is_nullable() == field.is_nullable() => {}
                _ => *field = Arc::new(field.as_ref().clone().with_nullable(true)),
            }
        }
        let more = added.into_iter().filter(|field| known.column_with_name(field.name()).is_none());
        fields.extend(more.map(|field| Arc::new(field.as_ref().clone().with_nullable(true))));
        fields.extend(known.fields()[known.fields().len() - after..].iter().cloned());
        self.late_schema = Some(Schema::new(fields).into());
    }
}
