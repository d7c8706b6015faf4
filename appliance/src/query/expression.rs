//! Expressions of `eli query`: CEL, checked against the fields of a noun before the first object is looked at.

use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelBool, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Program, Value};

use super::field::{Field, Kind, Scene};
use super::version::Version;

const MOST_CHARACTERS: usize = 2000;
/// Brackets inside one another. The parser is recursive and has its own limit, but past it it ends the process.
const MOST_NESTED: usize = 24;
/// Parts of an expression; each may be a level of recursion.
const MOST_PARTS: usize = 400;
/// `all`, `exists` and the like inside one another: each multiplies the time by the length of a list.
const MOST_LOOPS: usize = 2;

/// What is wrong with an expression, where, and what could stand there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WrongExpression(pub String);

pub struct Expression<'f, T: 'static> {
    text: String,
    noun: &'static str,
    fields: &'f [Field<T>],
    program: Program,
    /// The program's expression with what is compared to a version made a version.
    root: IdedExpr,
}

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    // Refused only if there were such a function already, which a test would show.
    let _ = cel::add_overload!(environment, fn version: (CelString) -> Version);
    Arc::new(environment)
});

fn version(text: &CelString) -> Version {
    Version(text.inner().to_owned())
}

impl<'f, T: Sync> Expression<'f, T> {
    /// Needs some megabytes of stack, as does [`Expression::holds`].
    pub fn read(
        text: &str,
        noun: &'static str,
        fields: &'f [Field<T>],
    ) -> Result<Expression<'f, T>, WrongExpression> {
        within_limits(text)?;
        let program = ENVIRONMENT.compile(text).map_err(|errors| {
            let error = errors.errors.first();
            let column = error.map_or(0, |error| usize::try_from(error.pos.1).unwrap_or(1).saturating_sub(1));
            wrong(
                text,
                column,
                &error.map_or_else(|| "it cannot be read".to_owned(), |error| plain(&error.msg)),
            )
        })?;
        let root = program.expression().clone();
        let mut expression = Expression { text: text.to_owned(), noun, fields, program, root };
        let mut bound = Vec::new();
        let mut parts = 0;
        expression.check(&expression.root, &mut bound, 0, &mut parts)?;
        let mut root = std::mem::take(&mut expression.root);
        expression.rewrite(&mut root);
        expression.root = root;
        Ok(expression)
    }

    /// Whether it is true of `object`. Where it compares something that is not known of it, it is not.
    pub fn holds(&self, scene: &Scene, object: &T) -> Result<bool, WrongExpression> {
        let row = Row { scene, object, fields: self.fields };
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(&row);
        match Value::resolve_val(&self.root, &context) {
            Ok(value) => match value.downcast_ref::<CelBool>() {
                Some(holds) => Ok(*holds.inner()),
                None if value.get_type().name() == NULL => Ok(false),
                None => {
                    let what = format!("it is a {} and not true or false", value.get_type().name());
                    Err(wrong(&self.text, 0, &what))
                }
            },
            Err(ExecutionError::NoSuchOverload(error))
                if error.argument_types().iter().any(|kind| kind == NULL) =>
            {
                Ok(false)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Every name is that of a field, or of an element of a list that is gone through.
    fn check(
        &self,
        part: &IdedExpr,
        bound: &mut Vec<String>,
        loops: usize,
        parts: &mut usize,
    ) -> Result<(), WrongExpression> {
        *parts += 1;
        if *parts > MOST_PARTS {
            return Err(WrongExpression(format!("this expression has more than {MOST_PARTS} parts")));
        }
        if let Some(name) = name(part) {
            let root = name.split('.').next().unwrap_or_default();
            let known = bound.iter().any(|bound| bound == root) || root.starts_with('@');
            if known || TYPES.contains(&root) || self.field(&name).is_some() {
                return Ok(());
            }
            let field = name.split('.').next().is_some_and(|root| self.field(root).is_some());
            let what = if field {
                format!("{root} is a field of {}, and has no fields of its own", self.noun)
            } else {
                format!("{name} is not a field of {}", self.noun)
            };
            let names: Vec<&str> = self.fields.iter().map(|field| field.name).collect();
            let start = self.place(first(part).id);
            let WrongExpression(sentence) = wrong(&self.text, start, &what);
            return Err(WrongExpression(format!(
                "{sentence}\nFields of {}: {}",
                self.noun,
                names.join(", ")
            )));
        }
        match &part.expr {
            Expr::Call(call) => {
                for part in call.target.as_deref().into_iter().chain(&call.args) {
                    self.check(part, bound, loops, parts)?;
                }
            }
            Expr::Comprehension(each) => {
                if loops == MOST_LOOPS {
                    let what = format!("lists are gone through more than {MOST_LOOPS} deep");
                    return Err(wrong(&self.text, self.place(part.id), &what));
                }
                self.check(&each.iter_range, bound, loops, parts)?;
                let before = bound.len();
                bound.extend([each.iter_var.clone(), each.accu_var.clone()]);
                bound.extend(each.iter_var2.clone());
                for part in [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result] {
                    self.check(part, bound, loops + 1, parts)?;
                }
                bound.truncate(before);
            }
            Expr::List(list) => {
                for part in &list.elements {
                    self.check(part, bound, loops, parts)?;
                }
            }
            Expr::Select(select) => self.check(&select.operand, bound, loops, parts)?,
            Expr::Map(_) | Expr::Struct(_) => {
                return Err(wrong(&self.text, self.place(part.id), "maps are not understood here"));
            }
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
        Ok(())
    }

    /// Makes text that is compared to a version a version, and `has(a.b)` a question for a field of that name.
    fn rewrite(&self, part: &mut IdedExpr) {
        if let Expr::Select(select) = &mut part.expr
            && select.test
        {
            let mut field = part.clone();
            if let Expr::Select(select) = &mut field.expr {
                select.test = false;
            }
            let null = IdedExpr { id: part.id, expr: Expr::Literal(LiteralValue::Null) };
            part.expr = call(operators::NOT_EQUALS, vec![field, null]);
            return;
        }
        match &mut part.expr {
            Expr::Call(call) => {
                if COMPARISONS.contains(&call.func_name.as_str())
                    && call.args.iter().any(|part| self.is_version(part))
                {
                    call.args.iter_mut().for_each(as_version);
                }
                for part in call.target.as_deref_mut().into_iter().chain(&mut call.args) {
                    self.rewrite(part);
                }
            }
            Expr::Comprehension(each) => {
                for part in [
                    &mut each.iter_range,
                    &mut each.accu_init,
                    &mut each.loop_cond,
                    &mut each.loop_step,
                    &mut each.result,
                ] {
                    self.rewrite(part);
                }
            }
            Expr::List(list) => list.elements.iter_mut().for_each(|part| self.rewrite(part)),
            Expr::Select(_)
            | Expr::Map(_)
            | Expr::Struct(_)
            | Expr::Ident(_)
            | Expr::Literal(_)
            | Expr::Unspecified => {}
        }
    }

    fn is_version(&self, part: &IdedExpr) -> bool {
        let field = name(part).and_then(|name| self.field(&name));
        field.is_some_and(|field| field.kind == Kind::Version)
    }

    fn field(&self, name: &str) -> Option<&'f Field<T>> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn failed(&self, error: &ExecutionError) -> WrongExpression {
        let (function, what) = match error {
            ExecutionError::NoSuchOverload(error) => {
                let types = error.argument_types().join(" and ");
                let function = error.function();
                (Some(function), format!("{} does not work on {types}", spoken(function)))
            }
            ExecutionError::UndeclaredReference(name) => {
                (Some(name.as_str()), format!("there is no function {name}"))
            }
            other => (None, other.to_string()),
        };
        let place = function.and_then(|function| call_of(self.program.expression(), function));
        wrong(&self.text, place.map_or(0, |id| self.place(id)), &what)
    }

    /// The character, counted from 0, at which a part stands.
    fn place(&self, id: u64) -> usize {
        self.program.source_info().offset_for(id).map_or(0, |(start, _)| start as usize)
    }
}

/// The type of what is not known.
const NULL: &str = "null_type";

const TYPES: [&str; 8] = ["bool", "bytes", "double", "int", "list", "null_type", "string", "uint"];

const COMPARISONS: [&str; 7] = [
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::IN,
];

struct Row<'a, T: 'static> {
    scene: &'a Scene,
    object: &'a T,
    fields: &'a [Field<T>],
}

impl<T: Sync> VariableResolver for Row<'_, T> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let field = self.fields.iter().find(|field| field.name == variable)?;
        Some((field.get)(self.scene, self.object).value())
    }
}

fn within_limits(text: &str) -> Result<(), WrongExpression> {
    if text.len() > MOST_CHARACTERS {
        return Err(WrongExpression(format!("an expression has at most {MOST_CHARACTERS} characters")));
    }
    let (mut open, mut unary) = (0_usize, 0_usize);
    for (place, c) in text.chars().enumerate() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        unary = if matches!(c, '!' | '-' | '?' | ':') { unary + 1 } else { unary };
        if open > MOST_NESTED || unary > 4 * MOST_NESTED {
            return Err(wrong(text, place, "this is nested too deeply"));
        }
    }
    Ok(())
}

/// `a.b` of a field `a.b`, or of an element `a`: not of what a function returns.
fn name(part: &IdedExpr) -> Option<String> {
    match &part.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", name(&select.operand)?, select.field)),
        _ => None,
    }
}

fn first(part: &IdedExpr) -> &IdedExpr {
    match &part.expr {
        Expr::Select(select) => first(&select.operand),
        _ => part,
    }
}

fn as_version(part: &mut IdedExpr) {
    match &mut part.expr {
        Expr::Literal(LiteralValue::String(_)) => {
            let text = part.clone();
            part.expr = call("version", vec![text]);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(as_version),
        _ => {}
    }
}

fn call(function: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args })
}

/// The first call of `function`, in reading order.
fn call_of(part: &IdedExpr, function: &str) -> Option<u64> {
    match &part.expr {
        Expr::Call(call) => {
            let own = (call.func_name == function).then_some(part.id);
            own.or_else(|| call.target.iter().find_map(|part| call_of(part, function)))
                .or_else(|| call.args.iter().find_map(|part| call_of(part, function)))
        }
        Expr::Comprehension(each) => {
            [&each.iter_range, &each.loop_step].into_iter().find_map(|part| call_of(part, function))
        }
        Expr::List(list) => list.elements.iter().find_map(|part| call_of(part, function)),
        Expr::Select(select) => call_of(&select.operand, function),
        _ => None,
    }
}

fn wrong(text: &str, place: usize, what: &str) -> WrongExpression {
    let line = text.replace(['\n', '\r', '\t'], " ");
    WrongExpression(format!("{what}\n  {line}\n  {:place$}^", ""))
}

/// The parser's words, without the list of everything that could stand there instead.
fn plain(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting ").next().unwrap_or(message);
    match message {
        "mismatched input '<EOF>'" => "something is missing at the end".to_owned(),
        _ => message
            .replace("mismatched input", "did not expect")
            .replace("extraneous input", "did not expect")
            .replace("token recognition error at:", "cannot read"),
    }
}

fn spoken(function: &str) -> String {
    let operator = function.trim_matches('_').trim_start_matches('@');
    if operator.is_empty() { function.to_owned() } else { operator.to_owned() }
}
