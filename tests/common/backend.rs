//! A backend as a user would write it: the six required methods over a map, nothing more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use vecstash::{Backend, RowVisitor, StoreError, TableSchema, VectorRow};

type Hook = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
pub struct SixMethods {
    rows: Mutex<HashMap<(String, Vec<u8>), VectorRow>>,
    schemas: Mutex<Vec<TableSchema>>,
    /// Called at the beginning of every `put_row`, without a lock.
    before_put: Mutex<Option<Hook>>,
    /// Called at the beginning of every `get_row`, without a lock.
    before_get: Mutex<Option<Hook>>,
    /// The message that `put_row` fails with, if any.
    pub failure: Mutex<Option<String>>,
}

impl SixMethods {
    pub fn before_put(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.before_put.lock().unwrap() = Some(Arc::new(hook));
    }

    pub fn before_get(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.before_get.lock().unwrap() = Some(Arc::new(hook));
    }
}

impl Backend for SixMethods {
    fn put_row(&self, table: &str, key: &[u8], row: &VectorRow) -> Result<(), StoreError> {
        let hook = self.before_put.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook();
        }
        if let Some(message) = self.failure.lock().unwrap().clone() {
            return Err(StoreError::Backend(message));
        }
        let place = (table.to_owned(), key.to_vec());
        self.rows.lock().unwrap().insert(place, row.clone());
        Ok(())
    }

    fn get_row(&self, table: &str, key: &[u8]) -> Result<Option<VectorRow>, StoreError> {
        let hook = self.before_get.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook();
        }
        let place = (table.to_owned(), key.to_vec());
        Ok(self.rows.lock().unwrap().get(&place).cloned())
    }

    fn delete_row(&self, table: &str, key: &[u8]) -> Result<bool, StoreError> {
        let place = (table.to_owned(), key.to_vec());
        Ok(self.rows.lock().unwrap().remove(&place).is_some())
    }

    fn for_each_row(&self, table: &str, f: &mut RowVisitor<'_>) -> Result<(), StoreError> {
        // In the map's own order, which differs from one map to the next.
        for ((_, key), row) in self
            .rows
            .lock()
            .unwrap()
            .iter()
            .filter(|((name, _), _)| name == table)
        {
            f(key, row)?;
        }
        Ok(())
    }

    fn put_schema(&self, schema: &TableSchema) -> Result<(), StoreError> {
        self.schemas.lock().unwrap().push(schema.clone());
        Ok(())
    }

    fn list_schemas(&self) -> Result<Vec<TableSchema>, StoreError> {
        Ok(self.schemas.lock().unwrap().clone())
    }
}
