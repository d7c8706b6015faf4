//! What is on the screen and what a key does: keys in, actions out.

use ratatui::crossterm::event::KeyCode;

use super::Status;
use super::network::{self, Nic};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Overview,
    Needs,
    Logs,
    Network,
    Password,
    Power,
}

impl View {
    pub const ALL: [View; 6] =
        [View::Overview, View::Needs, View::Logs, View::Network, View::Password, View::Power];

    pub fn title(self) -> &'static str {
        match self {
            View::Overview => "Overview",
            View::Needs => "Needs you",
            View::Logs => "Logs",
            View::Network => "Network",
            View::Password => "Password",
            View::Power => "Power",
        }
    }

    fn beside(self, step: usize) -> View {
        let here = View::ALL.iter().position(|view| *view == self).unwrap_or_default();
        View::ALL[(here + step) % View::ALL.len()]
    }
}

/// What is to be done outside of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    ResetPassword,
    ServeAnew,
    Restart,
    PowerOff,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Screen {
    pub view: Option<View>,
    /// As the daemon said it last.
    pub status: Option<Status>,
    /// Why the daemon does not answer.
    pub away: Option<String>,
    pub logs: Vec<String>,
    /// Lines above the last one.
    pub back: usize,
    pub nics: Vec<Nic>,
    /// The row that is chosen.
    pub row: usize,
    /// Waits for a yes.
    pub asked: Option<Action>,
    /// What came of the last action.
    pub said: Option<String>,
}

impl Screen {
    pub fn view(&self) -> View {
        self.view.unwrap_or(View::Overview)
    }

    pub fn key(&mut self, key: KeyCode) -> Option<Action> {
        self.said = None;
        if let Some(action) = self.asked.take() {
            return matches!(key, KeyCode::Char('y' | 'Y')).then_some(action).or_else(|| {
                self.said = Some("Nothing was done.".to_owned());
                None
            });
        }
        match key {
            KeyCode::Char(digit @ '1'..='6') => {
                let place = digit as usize - '1' as usize;
                self.go(View::ALL[place]);
            }
            KeyCode::Tab | KeyCode::Right => self.go(self.view().beside(1)),
            KeyCode::BackTab | KeyCode::Left => self.go(self.view().beside(View::ALL.len() - 1)),
            KeyCode::Esc => self.go(View::Overview),
            KeyCode::Up => self.moved(1, false),
            KeyCode::Down => self.moved(1, true),
            KeyCode::PageUp => self.moved(10, false),
            KeyCode::PageDown => self.moved(10, true),
            KeyCode::Char(' ') if self.view() == View::Network => {
                if let Some(nic) = self.nics.get_mut(self.row) {
                    nic.turn();
                }
            }
            KeyCode::Enter => self.enter(),
            _ => {}
        }
        None
    }

    fn go(&mut self, view: View) {
        self.view = Some(view);
        self.row = 0;
        self.back = 0;
        // What was chosen and not saved is as it was.
        for nic in &mut self.nics {
            nic.wanted = nic.setting;
        }
    }

    fn moved(&mut self, by: usize, down: bool) {
        let last = match self.view() {
            View::Logs => {
                let most = self.logs.len().saturating_sub(1);
                self.back = if down { self.back.saturating_sub(by) } else { (self.back + by).min(most) };
                return;
            }
            View::Needs => self.status.as_ref().map_or(0, |status| status.needs.len().saturating_sub(1)),
            View::Network => self.nics.len().saturating_sub(1),
            View::Power => 1,
            View::Overview | View::Password => 0,
        };
        self.row = if down { (self.row + by).min(last) } else { self.row.saturating_sub(by) };
    }

    fn enter(&mut self) {
        match self.view() {
            View::Network => match network::changes(&self.nics) {
                Ok(changes) if changes.is_empty() => {
                    self.said =
                        Some("Nothing is different. Space changes the NIC that is marked.".to_owned());
                }
                Ok(_) => self.asked = Some(Action::ServeAnew),
                Err(sentence) => self.said = Some(sentence),
            },
            View::Password if self.away.is_some() => {
                self.said = Some("The daemon has to run for that.".to_owned());
            }
            View::Password => self.asked = Some(Action::ResetPassword),
            View::Power => self.asked = Some(if self.row == 0 { Action::Restart } else { Action::PowerOff }),
            View::Overview | View::Needs | View::Logs => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Setting;

    fn screen() -> Screen {
        let nic = |name: &str| Nic {
            name: name.into(),
            mac: "52:54:00:00:00:01".into(),
            cable: true,
            setting: Setting::Auto,
            wanted: Setting::Auto,
            fixed: false,
        };
        Screen { nics: vec![nic("eth0"), nic("eth1")], logs: vec!["x".into(); 30], ..Screen::default() }
    }

    fn type_keys(screen: &mut Screen, keys: &[KeyCode]) -> Vec<Action> {
        keys.iter().filter_map(|key| screen.key(*key)).collect()
    }

    #[test]
    fn nothing_is_done_without_a_yes() {
        use KeyCode::{Char, Down, Enter, Esc};
        let mut screen = screen();
        for no in [Char('n'), Esc, Enter, Char(' '), Char('1')] {
            assert_eq!(type_keys(&mut screen, &[Char('6'), Enter, no]), []);
            assert_eq!(screen.said.as_deref(), Some("Nothing was done."));
        }
        assert_eq!(type_keys(&mut screen, &[Char('6'), Enter, Char('y')]), [Action::Restart]);
        assert_eq!(type_keys(&mut screen, &[Char('6'), Down, Enter, Char('y')]), [Action::PowerOff]);
        assert_eq!(type_keys(&mut screen, &[Char('5'), Enter, Char('y')]), [Action::ResetPassword]);
        screen.away = Some("gone".into());
        assert_eq!(type_keys(&mut screen, &[Char('5'), Enter, Char('y')]), []);
        assert_eq!(type_keys(&mut screen, &[Char('y'), Enter, Char('y')]), []);
    }

    #[test]
    fn network_settings_are_chosen_shown_and_left_alone_again() {
        use KeyCode::{Char, Down, Enter, Esc};
        let mut screen = screen();
        assert_eq!(type_keys(&mut screen, &[Char('4'), Enter, Char('y')]), [], "nothing is different");
        assert_eq!(
            type_keys(&mut screen, &[Char('4'), Down, Char(' '), Enter, Char('y')]),
            [Action::ServeAnew]
        );
        assert_eq!(screen.nics[1].wanted, Setting::Full);
        type_keys(&mut screen, &[Esc]);
        assert_eq!(screen.nics[1].wanted, Setting::Auto);
        type_keys(&mut screen, &[Char('4'), Char(' '), Down, Char(' '), Enter]);
        assert_eq!(screen.asked, None, "two cannot be served");
        assert!(screen.said.as_ref().unwrap().contains("eth0, eth1"));
    }

    #[test]
    fn logs_go_back_to_the_first_line_and_no_further() {
        let mut screen = screen();
        type_keys(&mut screen, &[KeyCode::Char('3')]);
        type_keys(&mut screen, &[KeyCode::PageUp; 9]);
        assert_eq!(screen.back, 29);
        type_keys(&mut screen, &[KeyCode::PageDown; 9]);
        assert_eq!(screen.back, 0);
    }
}
