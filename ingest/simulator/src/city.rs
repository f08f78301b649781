//! The cities: where they lie, what is where in them, and what a trip costs there.

/// What draws people to a zone, and when (see [`crate::calendar`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ZoneKind {
    Centre,
    Business,
    Airport,
    Station,
    Stadium,
    Nightlife,
    Shopping,
    Campus,
    Residential,
}

/// A part of a city, known by its centre: a place belongs to the zone whose centre is nearest.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) name: &'static str,
    pub(crate) kind: ZoneKind,
    pub(crate) lat: f64,
    pub(crate) lon: f64,
}

/// A city with its tariff in hundredths of its currency.
#[derive(Debug)]
pub(crate) struct City {
    pub(crate) name: &'static str,
    pub(crate) country: &'static str,
    pub(crate) currency: &'static str,
    /// Local time all year round; summer time is left out.
    pub(crate) utc_offset_h: i64,
    /// How the streets lie, in degrees from north.
    pub(crate) grid_deg: f64,
    /// Share of drivers and riders, relative to the other cities.
    pub(crate) weight: f64,
    pub(crate) base_cents: f64,
    pub(crate) per_km_cents: f64,
    pub(crate) per_minute_cents: f64,
    pub(crate) zones: &'static [Zone],
}

/// The names `Settings::cities` may hold.
pub fn city_names() -> impl Iterator<Item = &'static str> {
    CITIES.iter().map(|city| city.name)
}

const fn zone(name: &'static str, kind: ZoneKind, lat: f64, lon: f64) -> Zone {
    Zone { name, kind, lat, lon }
}

use ZoneKind::{Airport, Business, Campus, Centre, Nightlife, Residential, Shopping, Stadium, Station};

pub(crate) static CITIES: [City; 8] = [
    City {
        name: "amsterdam",
        country: "NL",
        currency: "EUR",
        utc_offset_h: 1,
        grid_deg: 18.0,
        weight: 1.0,
        base_cents: 360.0,
        per_km_cents: 145.0,
        per_minute_cents: 30.0,
        zones: &[
            zone("centrum", Centre, 52.3731, 4.8926),
            zone("schiphol", Airport, 52.3105, 4.7683),
            zone("centraal", Station, 52.3791, 4.9003),
            zone("zuidas", Business, 52.3389, 4.8735),
            zone("arena", Stadium, 52.3143, 4.9419),
            zone("leidseplein", Nightlife, 52.3641, 4.8828),
            zone("noord", Residential, 52.4000, 4.9230),
            zone("oost", Residential, 52.3610, 4.9400),
            zone("west", Residential, 52.3740, 4.8560),
            zone("science_park", Campus, 52.3550, 4.9510),
        ],
    },
    City {
        name: "berlin",
        country: "DE",
        currency: "EUR",
        utc_offset_h: 1,
        grid_deg: 8.0,
        weight: 1.6,
        base_cents: 350.0,
        per_km_cents: 160.0,
        per_minute_cents: 28.0,
        zones: &[
            zone("mitte", Centre, 52.5200, 13.4050),
            zone("ber", Airport, 52.3667, 13.5033),
            zone("hauptbahnhof", Station, 52.5251, 13.3694),
            zone("potsdamer_platz", Business, 52.5096, 13.3759),
            zone("olympiastadion", Stadium, 52.5147, 13.2395),
            zone("kreuzberg", Nightlife, 52.4990, 13.4180),
            zone("friedrichshain", Nightlife, 52.5150, 13.4540),
            zone("charlottenburg", Shopping, 52.5160, 13.3040),
            zone("prenzlauer_berg", Residential, 52.5390, 13.4240),
            zone("neukoelln", Residential, 52.4810, 13.4350),
            zone("dahlem", Campus, 52.4530, 13.2900),
        ],
    },
    City {
        name: "chicago",
        country: "US",
        currency: "USD",
        utc_offset_h: -6,
        grid_deg: 0.0,
        weight: 1.6,
        base_cents: 280.0,
        per_km_cents: 85.0,
        per_minute_cents: 32.0,
        zones: &[
            zone("loop", Business, 41.8837, -87.6289),
            zone("ohare", Airport, 41.9742, -87.9073),
            zone("midway", Airport, 41.7868, -87.7522),
            zone("union_station", Station, 41.8787, -87.6403),
            zone("river_north", Nightlife, 41.8924, -87.6341),
            zone("magnificent_mile", Shopping, 41.8950, -87.6243),
            zone("wrigley_field", Stadium, 41.9484, -87.6553),
            zone("lincoln_park", Residential, 41.9214, -87.6513),
            zone("wicker_park", Residential, 41.9088, -87.6796),
            zone("hyde_park", Campus, 41.7943, -87.5907),
            zone("pilsen", Residential, 41.8570, -87.6560),
        ],
    },
    City {
        name: "london",
        country: "GB",
        currency: "GBP",
        utc_offset_h: 0,
        grid_deg: 27.0,
        weight: 3.0,
        base_cents: 300.0,
        per_km_cents: 125.0,
        per_minute_cents: 20.0,
        zones: &[
            zone("westminster", Centre, 51.4995, -0.1248),
            zone("city", Business, 51.5155, -0.0922),
            zone("canary_wharf", Business, 51.5054, -0.0235),
            zone("heathrow", Airport, 51.4700, -0.4543),
            zone("kings_cross", Station, 51.5308, -0.1238),
            zone("soho", Nightlife, 51.5136, -0.1365),
            zone("shoreditch", Nightlife, 51.5265, -0.0780),
            zone("wembley", Stadium, 51.5560, -0.2795),
            zone("stratford", Shopping, 51.5430, -0.0030),
            zone("bloomsbury", Campus, 51.5230, -0.1310),
            zone("clapham", Residential, 51.4620, -0.1380),
            zone("hampstead", Residential, 51.5560, -0.1760),
        ],
    },
    City {
        name: "new_york",
        country: "US",
        currency: "USD",
        utc_offset_h: -5,
        grid_deg: 29.0,
        weight: 3.5,
        base_cents: 300.0,
        per_km_cents: 110.0,
        per_minute_cents: 55.0,
        zones: &[
            zone("midtown", Centre, 40.7549, -73.9840),
            zone("financial_district", Business, 40.7075, -74.0113),
            zone("jfk", Airport, 40.6413, -73.7781),
            zone("laguardia", Airport, 40.7769, -73.8740),
            zone("penn_station", Station, 40.7506, -73.9935),
            zone("yankee_stadium", Stadium, 40.8296, -73.9262),
            zone("east_village", Nightlife, 40.7265, -73.9815),
            zone("williamsburg", Nightlife, 40.7081, -73.9571),
            zone("upper_west_side", Residential, 40.7870, -73.9754),
            zone("harlem", Residential, 40.8150, -73.9420),
            zone("astoria", Residential, 40.7644, -73.9235),
            zone("columbia", Campus, 40.8075, -73.9626),
        ],
    },
    City {
        name: "paris",
        country: "FR",
        currency: "EUR",
        utc_offset_h: 1,
        grid_deg: 35.0,
        weight: 2.2,
        base_cents: 260.0,
        per_km_cents: 130.0,
        per_minute_cents: 35.0,
        zones: &[
            zone("chatelet", Centre, 48.8620, 2.3470),
            zone("la_defense", Business, 48.8918, 2.2380),
            zone("roissy", Airport, 49.0097, 2.5479),
            zone("gare_du_nord", Station, 48.8809, 2.3553),
            zone("montparnasse", Station, 48.8421, 2.3219),
            zone("stade_de_france", Stadium, 48.9245, 2.3602),
            zone("pigalle", Nightlife, 48.8820, 2.3375),
            zone("bastille", Nightlife, 48.8530, 2.3690),
            zone("opera", Shopping, 48.8719, 2.3316),
            zone("belleville", Residential, 48.8710, 2.3850),
            zone("passy", Residential, 48.8575, 2.2800),
        ],
    },
    City {
        name: "sao_paulo",
        country: "BR",
        currency: "BRL",
        utc_offset_h: -3,
        grid_deg: 40.0,
        weight: 3.0,
        base_cents: 500.0,
        per_km_cents: 190.0,
        per_minute_cents: 32.0,
        zones: &[
            zone("se", Centre, -23.5503, -46.6339),
            zone("paulista", Business, -23.5614, -46.6559),
            zone("faria_lima", Business, -23.5868, -46.6820),
            zone("guarulhos", Airport, -23.4356, -46.4731),
            zone("congonhas", Airport, -23.6261, -46.6564),
            zone("luz", Station, -23.5350, -46.6345),
            zone("morumbi", Stadium, -23.6000, -46.7200),
            zone("vila_madalena", Nightlife, -23.5535, -46.6910),
            zone("tatuape", Residential, -23.5400, -46.5760),
            zone("pinheiros", Residential, -23.5670, -46.7000),
            zone("butanta", Campus, -23.5600, -46.7300),
        ],
    },
    City {
        name: "singapore",
        country: "SG",
        currency: "SGD",
        utc_offset_h: 8,
        grid_deg: 12.0,
        weight: 1.8,
        base_cents: 320.0,
        per_km_cents: 70.0,
        per_minute_cents: 20.0,
        zones: &[
            zone("city_hall", Centre, 1.2931, 103.8520),
            zone("marina_bay", Business, 1.2834, 103.8607),
            zone("changi", Airport, 1.3644, 103.9915),
            zone("orchard", Shopping, 1.3048, 103.8318),
            zone("clarke_quay", Nightlife, 1.2884, 103.8465),
            zone("national_stadium", Stadium, 1.3040, 103.8740),
            zone("jurong_east", Residential, 1.3331, 103.7423),
            zone("tampines", Residential, 1.3530, 103.9450),
            zone("woodlands", Residential, 1.4360, 103.7860),
            zone("kent_ridge", Campus, 1.2966, 103.7764),
        ],
    },
];
