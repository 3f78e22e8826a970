//! The published Nexmark generator: people, auctions and bids, each a pure function of the options and the event's number.
//!
//! Event `n` is a person, an auction or a bid by `n` modulo the sum of the proportions (1 : 3 : 46). Ids count up within each
//! kind, so bids and auctions can name people and auctions that exist, with a few that are about to. Facts (names, ratios,
//! windows, distributions) are those of the generators of Apache Beam and of the Nexmark suite for Flink. Two slips of the latter
//! are not followed: its bidders are moved by the first person's id twice, and its filler leaves the alphabet for negative draws.

use super::options::NexmarkOptions;
use crate::draws::Draws;

const FIRST_PERSON_ID: i64 = 1_000;
const FIRST_AUCTION_ID: i64 = 1_000;
const FIRST_CATEGORY_ID: i64 = 10;
const CATEGORIES: u64 = 5;
/// How far ids may run ahead of the entities that exist.
const ID_LEAD: u64 = 10;
/// One person or auction in this many is hot.
const HOT_STRIDE: u64 = 100;
const ACTIVE_PEOPLE: u64 = 1_000;
const AUCTIONS_IN_FLIGHT: u64 = 100;

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const OTHER_CHANNELS: u64 = 10_000;

/// What a draw is for. Every purpose of one kind of event has its own number.
mod purpose {
    pub(super) const FIRST_NAME: u64 = 1;
    pub(super) const LAST_NAME: u64 = 2;
    pub(super) const EMAIL_USER: u64 = 3;
    pub(super) const EMAIL_HOST: u64 = 4;
    pub(super) const CARD: u64 = 5;
    pub(super) const CITY: u64 = 6;
    pub(super) const STATE: u64 = 7;
    pub(super) const EXTRA: u64 = 8;
    pub(super) const HOT_SELLER: u64 = 9;
    pub(super) const SELLER: u64 = 10;
    pub(super) const CATEGORY: u64 = 11;
    pub(super) const INITIAL_BID: u64 = 12;
    pub(super) const RESERVE: u64 = 13;
    pub(super) const LENGTH: u64 = 14;
    pub(super) const ITEM_NAME: u64 = 15;
    pub(super) const DESCRIPTION: u64 = 16;
    pub(super) const HOT_AUCTION: u64 = 17;
    pub(super) const AUCTION: u64 = 18;
    pub(super) const HOT_BIDDER: u64 = 19;
    pub(super) const BIDDER: u64 = 20;
    pub(super) const PRICE: u64 = 21;
    pub(super) const HOT_CHANNEL: u64 = 22;
    pub(super) const CHANNEL: u64 = 23;
    pub(super) const CHANNEL_ID: u64 = 24;
    pub(super) const URL: u64 = 25;
}

/// The kind of an event; the number is the value of the `event_type` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Kind {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

struct Channel {
    name: String,
    url: String,
}

/// Makes events. Built once per source; readers share it.
pub(super) struct Generator {
    pub(super) options: NexmarkOptions,
    total: u64,
    hot_channels: Vec<Channel>,
    channels: Vec<Channel>,
}

impl Generator {
    pub(super) fn new(options: NexmarkOptions) -> Self {
        let total = options.proportions();
        let hot_channels = (0..HOT_CHANNELS.len() as u64)
            .zip(HOT_CHANNELS)
            .map(|(i, name)| Channel {
                name: name.to_owned(),
                url: page(OTHER_CHANNELS + i),
            })
            .collect();
        let channels = (0..OTHER_CHANNELS).map(other_channel).collect();
        Self {
            options,
            total,
            hot_channels,
            channels,
        }
    }

    pub(super) fn kind(&self, n: u64) -> Kind {
        let place = n % self.total;
        if place < self.options.person_proportion {
            Kind::Person
        } else if place < self.options.person_proportion + self.options.auction_proportion {
            Kind::Auction
        } else {
            Kind::Bid
        }
    }

    pub(super) fn event_ms(&self, n: u64) -> i64 {
        self.options.timeline.event_ms(n)
    }

    /// Index of the newest person when event `n` happens (the person itself if `n` is one).
    fn newest_person(&self, n: u64) -> u64 {
        let (round, place) = (n / self.total, n % self.total);
        let in_round = place.min(self.options.person_proportion.saturating_sub(1));
        round * self.options.person_proportion + in_round
    }

    /// Index of the newest auction when event `n` happens (the auction itself if `n` is one); before the first one, 0.
    fn newest_auction(&self, n: u64) -> u64 {
        let (round, place) = (n / self.total, n % self.total);
        let per_round = self.options.auction_proportion;
        let so_far = match place.checked_sub(self.options.person_proportion) {
            None => 0,
            Some(place) => (place + 1).min(per_round),
        };
        (round * per_round + so_far).saturating_sub(1)
    }

    /// Any of the people who are active when event `n` happens, or one of those about to come.
    fn any_person(&self, n: u64, draws: Draws, purpose: u64) -> u64 {
        let people = self.newest_person(n) + 1;
        let active = people.min(ACTIVE_PEOPLE);
        people - active + draws.below(purpose, active + ID_LEAD)
    }

    // People.

    pub(super) fn person_id(&self, n: u64) -> i64 {
        FIRST_PERSON_ID.saturating_add_unsigned(self.newest_person(n))
    }

    pub(super) fn person_name(&self, n: u64, out: &mut Vec<u8>) {
        let draws = Draws::of(n);
        out.extend_from_slice(pick(draws, purpose::FIRST_NAME, &FIRST_NAMES));
        out.push(b' ');
        out.extend_from_slice(pick(draws, purpose::LAST_NAME, &LAST_NAMES));
    }

    pub(super) fn person_email(&self, n: u64, out: &mut Vec<u8>) {
        let draws = Draws::of(n);
        draws.word(purpose::EMAIL_USER, 7, b' ', out);
        out.push(b'@');
        draws.word(purpose::EMAIL_HOST, 5, b' ', out);
        out.extend_from_slice(b".com");
    }

    pub(super) fn person_card(&self, n: u64, out: &mut Vec<u8>) {
        let mut number = Draws::of(n).below(purpose::CARD, 10_000_000_000_000_000);
        let start = out.len();
        out.extend_from_slice(b"0000 0000 0000 0000");
        for digit in out[start..].iter_mut().rev().filter(|byte| **byte == b'0') {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }

    pub(super) fn person_city(&self, n: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(pick(Draws::of(n), purpose::CITY, &CITIES));
    }

    pub(super) fn person_state(&self, n: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(pick(Draws::of(n), purpose::STATE, &STATES));
    }

    pub(super) fn person_extra(&self, n: u64, out: &mut Vec<u8>) {
        let start = out.len();
        self.person_name(n, out);
        self.person_email(n, out);
        self.person_card(n, out);
        self.person_city(n, out);
        self.person_state(n, out);
        let so_far = 8 + (out.len() - start) as u64;
        out.truncate(start);
        Draws::of(n).filler(purpose::EXTRA, so_far, self.options.person_bytes, out);
    }

    // Auctions.

    pub(super) fn auction_id(&self, n: u64) -> i64 {
        FIRST_AUCTION_ID.saturating_add_unsigned(self.newest_auction(n))
    }

    pub(super) fn auction_item(&self, n: u64, out: &mut Vec<u8>) {
        Draws::of(n).word(purpose::ITEM_NAME, 20, b' ', out);
    }

    pub(super) fn auction_description(&self, n: u64, out: &mut Vec<u8>) {
        Draws::of(n).word(purpose::DESCRIPTION, 100, b' ', out);
    }

    pub(super) fn auction_initial_bid(&self, n: u64) -> i64 {
        Draws::of(n).price(purpose::INITIAL_BID)
    }

    pub(super) fn auction_reserve(&self, n: u64) -> i64 {
        self.auction_initial_bid(n) + Draws::of(n).price(purpose::RESERVE)
    }

    /// On average, when as many auctions have followed as are in flight at a time.
    pub(super) fn auction_expires(&self, n: u64) -> i64 {
        let events_ahead = AUCTIONS_IN_FLIGHT * self.total / self.options.auction_proportion.max(1);
        let now_ms = self.event_ms(n);
        let horizon_ms = self
            .event_ms(n.saturating_add(events_ahead))
            .saturating_sub(now_ms)
            .unsigned_abs();
        let length_ms = 1 + Draws::of(n).below(purpose::LENGTH, (horizon_ms * 2).max(1));
        now_ms.saturating_add_unsigned(length_ms)
    }

    pub(super) fn auction_seller(&self, n: u64) -> i64 {
        let draws = Draws::of(n);
        let seller = if draws.below(purpose::HOT_SELLER, self.options.hot_seller_ratio) > 0 {
            self.newest_person(n) / HOT_STRIDE * HOT_STRIDE
        } else {
            self.any_person(n, draws, purpose::SELLER)
        };
        FIRST_PERSON_ID.saturating_add_unsigned(seller)
    }

    pub(super) fn auction_category(&self, n: u64) -> i64 {
        FIRST_CATEGORY_ID.saturating_add_unsigned(Draws::of(n).below(purpose::CATEGORY, CATEGORIES))
    }

    pub(super) fn auction_extra(&self, n: u64, out: &mut Vec<u8>) {
        let start = out.len();
        self.auction_item(n, out);
        self.auction_description(n, out);
        let so_far = 8 * 6 + (out.len() - start) as u64;
        out.truncate(start);
        Draws::of(n).filler(purpose::EXTRA, so_far, self.options.auction_bytes, out);
    }

    // Bids.

    pub(super) fn bid_auction(&self, n: u64) -> i64 {
        let draws = Draws::of(n);
        let newest = self.newest_auction(n);
        let auction = if draws.below(purpose::HOT_AUCTION, self.options.hot_auction_ratio) > 0 {
            newest / HOT_STRIDE * HOT_STRIDE
        } else {
            let oldest = newest.saturating_sub(AUCTIONS_IN_FLIGHT);
            oldest + draws.below(purpose::AUCTION, newest - oldest + 1 + ID_LEAD)
        };
        FIRST_AUCTION_ID.saturating_add_unsigned(auction)
    }

    /// Hot bidders are next to the hot sellers, so that nobody is both.
    pub(super) fn bid_bidder(&self, n: u64) -> i64 {
        let draws = Draws::of(n);
        let bidder = if draws.below(purpose::HOT_BIDDER, self.options.hot_bidder_ratio) > 0 {
            self.newest_person(n) / HOT_STRIDE * HOT_STRIDE + 1
        } else {
            self.any_person(n, draws, purpose::BIDDER)
        };
        FIRST_PERSON_ID.saturating_add_unsigned(bidder)
    }

    pub(super) fn bid_price(&self, n: u64) -> i64 {
        Draws::of(n).price(purpose::PRICE)
    }

    /// Half of the bids come through one of four hot channels.
    fn channel(&self, n: u64) -> Option<&Channel> {
        let draws = Draws::of(n);
        let (channels, count) = if draws.below(purpose::HOT_CHANNEL, 2) > 0 {
            (&self.hot_channels, HOT_CHANNELS.len() as u64)
        } else {
            (&self.channels, OTHER_CHANNELS)
        };
        channels.get(draws.below(purpose::CHANNEL, count) as usize)
    }

    pub(super) fn bid_channel(&self, n: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(
            self.channel(n)
                .map_or(b"", |channel| channel.name.as_bytes()),
        );
    }

    pub(super) fn bid_url(&self, n: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(
            self.channel(n)
                .map_or(b"", |channel| channel.url.as_bytes()),
        );
    }

    pub(super) fn bid_extra(&self, n: u64, out: &mut Vec<u8>) {
        Draws::of(n).filler(purpose::EXTRA, 8 * 4, self.options.bid_bytes, out);
    }
}

fn pick(draws: Draws, purpose: u64, words: &[&'static str]) -> &'static [u8] {
    let index = draws.below(purpose, words.len() as u64) as usize;
    words.get(index).map_or(b"", |word| word.as_bytes())
}

/// The address of a channel's page, the same in every run.
fn page(channel: u64) -> String {
    let mut path = b"https://www.nexmark.com/".to_vec();
    for directory in 0..3 {
        Draws::of(channel).word(purpose::URL + directory, 5, b'_', &mut path);
        path.push(b'/');
    }
    path.extend_from_slice(b"item.htm?query=1");
    path.into_iter().map(char::from).collect()
}

/// Nine in ten of the other channels carry their id, which is the channel's number with its bits in reverse order.
fn other_channel(number: u64) -> Channel {
    let mut url = page(number);
    if Draws::of(number).below(purpose::CHANNEL_ID, 10) > 0 {
        let id = (number as i32).reverse_bits().wrapping_abs();
        url.push_str(&format!("&channel_id={id}"));
    }
    Channel {
        name: format!("channel-{number}"),
        url,
    }
}
