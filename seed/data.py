"""What a new shop is filled with: products, coupons, and the names of customers. Prices are in cents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from coupons.domain import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class Product:
    """`stock` pieces come in with the first delivery; a few products are scarce, to be sold out soon."""

    sku: str
    name: str
    price: int
    stock: int
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """Times are counted from the moment of seeding."""

    code: str
    kind: Kind
    value: int
    minimum_spend: int = 0
    begins: timedelta | None = None
    ends: timedelta | None = None
    total_limit: int | None = None
    per_customer_limit: int | None = None
    active: bool = True


CATALOGUE: dict[Category, tuple[Product, ...]] = {
    Category(slug="coffee", name="Coffee & tea"): (
        Product(
            "COF-001", "Quayside Blend, 250 g", 890, 400,
            "Our house coffee: milk chocolate, hazelnut, no fuss. Whole beans, roasted on Tuesdays.",
        ),
        Product(
            "COF-002", "Night Watch Espresso, 250 g", 990, 320,
            "Dark and syrupy, with enough left in it to get you through the small hours.",
        ),
        Product(
            "COF-003", "Lighthouse Decaf, 250 g", 1050, 180,
            "Decaffeinated with water alone. You will not notice what is missing.",
        ),
        Product(
            "COF-004", "Single Estate Huehuetenango, 250 g", 1390, 120,
            "Grown at 1,700 metres by one family. Red apple, caramel, a clean finish.",
        ),
        Product(
            "COF-005", "Harbour Fog Earl Grey, 100 g", 750, 260,
            "Black tea with cold-pressed bergamot. Strong enough for milk, fine enough without.",
        ),
        Product(
            "COF-006", "First Flush Darjeeling, 75 g", 1650, 90,
            "Picked in March, in your cup before summer. Light, floral, gone when it is gone.",
        ),
        Product(
            "COF-007", "Mint & Verbena, 50 g", 590, 210,
            "Two leaves and nothing else, dried whole so that they open again in the pot.",
        ),
        Product(
            "COF-008", "Enamel Mug, 350 ml", 1290, 240,
            "White with a navy rim. It chips, and looks better for it.",
        ),
        Product(
            "COF-009", "Pour-over Dripper", 2450, 110,
            "Stoneware cone for one or two cups. Takes any size 2 paper filter.",
        ),
        Product(
            "COF-010", "Hand Mill", 6900, 45,
            "Steel burrs, forty clicks from Turkish to French press. Fits between your knees.",
        ),
    ),
    Category(slug="pantry", name="Pantry"): (
        Product(
            "PAN-001", "Sea Salt Flakes, 150 g", 490, 380,
            "Thin, dry crystals to crush between your fingers over whatever is nearly ready.",
        ),
        Product(
            "PAN-002", "Smoked Sea Salt, 120 g", 620, 200,
            "Eight hours over beech wood. A pinch turns an egg into breakfast.",
        ),
        Product(
            "PAN-003", "Wildflower Honey, 500 g", 980, 160,
            "From hives behind the dunes. Set, spreadable, a little different every year.",
        ),
        Product(
            "PAN-004", "Bitter Orange Marmalade, 340 g", 690, 220,
            "Seville oranges, cut by hand, cooked until the peel gives in.",
        ),
        Product(
            "PAN-005", "Sardines in Olive Oil, 115 g", 560, 420,
            "Packed by hand within a day of landing. Better after a year in the cupboard.",
        ),
        Product(
            "PAN-006", "Mackerel with Lemon, 115 g", 580, 300,
            "Fillets, a slice of lemon, a bay leaf. Lunch, with bread and nobody watching.",
        ),
        Product(
            "PAN-007", "Olive Oil, Early Harvest, 500 ml", 1890, 140,
            "Green, peppery, pressed in October. For finishing, not for frying.",
        ),
        Product(
            "PAN-008", "Dark Chocolate 72 %, 80 g", 450, 500,
            "Three ingredients. Snaps loudly.",
        ),
        Product(
            "PAN-009", "Oat Biscuits, 200 g", 420, 340,
            "Crumbly, barely sweet, made for cheese and for tea.",
        ),
        Product(
            "PAN-010", "Captain's Hot Sauce, 150 ml", 780, 6,
            "Fermented chillies and seaweed. A small batch: when it is sold out, it is summer before there is more.",
        ),
    ),
    Category(slug="kitchen", name="Kitchen"): (
        Product(
            "KIT-001", "Cast-iron Skillet, 26 cm", 5900, 70,
            "Seasoned and ready. Outlives three non-stick pans and their owners.",
        ),
        Product(
            "KIT-002", "Enamel Casserole, 4 l", 8900, 50,
            "For soup on Sunday and bread on Monday. Oven-proof to 250 °C, lid included.",
        ),
        Product(
            "KIT-003", "Paring Knife", 1690, 150,
            "Carbon steel, pear-wood handle, nine centimetres of edge. Dry it after use.",
        ),
        Product(
            "KIT-004", "Chef's Knife, 20 cm", 7400, 60,
            "Balanced at the bolster, ground thin. The only large knife that most kitchens need.",
        ),
        Product(
            "KIT-005", "Oak Chopping Board", 3900, 85,
            "End-grain oak, 40 by 28 centimetres, kind to knives. Oil it twice a year.",
        ),
        Product(
            "KIT-006", "Linen Tea Towel", 1490, 260,
            "Dries glasses without fluff and gets softer with every wash.",
        ),
        Product(
            "KIT-007", "Stoneware Bowl", 1890, 190,
            "Wide and shallow, for pasta, salad or keys by the door. Each glaze turns out a little different.",
        ),
        Product(
            "KIT-008", "Spice Mortar", 3200, 75,
            "Rough granite inside, smooth outside, four kilograms that stay where they are.",
        ),
        Product(
            "KIT-009", "Wooden Spoon, Set of 3", 1250, 230,
            "Olive wood: one round, one flat, one with a corner for the edges of the pot.",
        ),
        Product(
            "KIT-010", "Copper Milk Pan, 0.9 l", 9800, 4,
            "Hand-hammered, tin-lined, a joy to pour from. We get a few each year.",
        ),
    ),
    Category(slug="stationery", name="Paper & desk"): (
        Product(
            "PAP-001", "Logbook, Ruled", 1590, 280,
            "192 numbered pages, thread-sewn so that it lies flat, with a table of contents to fill in.",
        ),
        Product(
            "PAP-002", "Logbook, Dotted", 1590, 260,
            "The same book for people who draw between the lines.",
        ),
        Product(
            "PAP-003", "Pocket Notebook, Set of 3", 1090, 300,
            "Forty-eight pages each, small enough to be with you when it matters.",
        ),
        Product(
            "PAP-004", "Brass Pen", 4500, 65,
            "Machined from one rod. Turns from gold to brown in your pocket; polish it if you mind.",
        ),
        Product(
            "PAP-005", "Pencils HB, Box of 12", 1190, 240,
            "Cedar, dark core, no eraser to chew on.",
        ),
        Product(
            "PAP-006", "Fountain Ink, Tide Blue, 50 ml", 1350, 130,
            "Blue that leans to green as it dries. Well behaved, not waterproof.",
        ),
        Product(
            "PAP-007", "Wall Calendar, Tides & Moons", 2200, 100,
            "Twelve sheets, risograph-printed, with the phases of the moon and room for birthdays.",
        ),
        Product(
            "PAP-008", "Desk Tray, Ash", 3400, 80,
            "For what would otherwise be everywhere. Stacks.",
        ),
        Product(
            "PAP-009", "Letter Set, 20 Sheets", 1650, 120,
            "Cotton paper and lined envelopes, for the one letter a year that ought to be one.",
        ),
        Product(
            "PAP-010", "Nautical Chart Poster", 2800, 90,
            "The harbour in 1896, reprinted from the engraver's plate. 50 by 70 centimetres, rolled.",
        ),
    ),
    Category(slug="light", name="Light & home"): (
        Product(
            "LIT-001", "Storm Lantern", 4900, 95,
            "Burns twenty hours on one filling and does not mind the wind.",
        ),
        Product(
            "LIT-002", "Beeswax Candles, Pair", 1390, 270,
            "Dipped by hand, thirty layers. They smell of honey and burn without smoke.",
        ),
        Product(
            "LIT-003", "Desk Lamp, Signal Red", 11900, 40,
            "Three joints, two springs, one switch. Stays where you leave it.",
        ),
        Product(
            "LIT-004", "Reading Light, Clip-on", 2900, 140,
            "Warm, dimmable, charged in an hour. For books, bunks and bad hotel rooms.",
        ),
        Product(
            "LIT-005", "Wool Blanket, Grey", 13900, 35,
            "Undyed wool from two breeds of sheep. 130 by 190 centimetres of being left alone.",
        ),
        Product(
            "LIT-006", "Rope Doormat", 5400, 70,
            "Knotted from retired fishing line. Sheds sand, dries overnight.",
        ),
        Product(
            "LIT-007", "Brass Hook", 1450, 310,
            "Holds a wet coat. Two screws included, opinions on straightness not.",
        ),
        Product(
            "LIT-008", "Ship's Clock", 18900, 25,
            "Solid brass, quartz inside, rings the watches if you let it.",
        ),
        Product(
            "LIT-009", "Matches, Long, Box of 60", 390, 450,
            "Fifteen centimetres: reach the wick, keep the fingers.",
        ),
        Product(
            "LIT-010", "Glass Float Lamp", 16500, 3,
            "An old net float with a light inside. We find a handful every winter.",
        ),
    ),
    Category(slug="garden", name="Garden"): (
        Product(
            "GAR-001", "Herb Seeds, Kitchen Five", 990, 330,
            "Parsley, chives, basil, thyme, dill. Instructions for people who forget to water.",
        ),
        Product(
            "GAR-002", "Wildflower Seeds, 10 m²", 1250, 220,
            "Thirty kinds that bees asked for. Scatter in autumn, do nothing, wait.",
        ),
        Product(
            "GAR-003", "Hand Trowel", 2350, 130,
            "Forged in one piece, ash handle, a scale for planting depth.",
        ),
        Product(
            "GAR-004", "Secateurs", 5200, 75,
            "Sharp, springy, every part replaceable. Your grandchildren may argue about them.",
        ),
        Product(
            "GAR-005", "Watering Can, 5 l", 4400, 85,
            "Galvanised, with a brass rose that makes rain instead of holes.",
        ),
        Product(
            "GAR-006", "Garden Twine, 120 m", 850, 360,
            "Jute, waxed, green. Rots in its own time, not in yours.",
        ),
        Product(
            "GAR-007", "Terracotta Pot, 18 cm", 1150, 240,
            "Frost-proof, made in a town that makes nothing else. Saucer included.",
        ),
        Product(
            "GAR-008", "Gardening Gloves", 1890, 160,
            "Goatskin palms, cotton backs. They soften; roses do not.",
        ),
        Product(
            "GAR-009", "Bird House, Larch", 3650, 60,
            "28 mm entrance for blue tits. Opens from the side for spring cleaning.",
        ),
        Product(
            "GAR-010", "Folding Stool", 6200, 5,
            "Canvas and ash, for weeding in comfort and for watching others do it. A short run.",
        ),
    ),
}  # fmt: skip

COUPONS = (
    Coupon(code="REGULAR", kind=Kind.PERCENTAGE, value=500),
    Coupon(code="WELCOME10", kind=Kind.PERCENTAGE, value=1_000, per_customer_limit=1),
    Coupon(code="SAIL5", kind=Kind.FIXED, value=500, minimum_spend=3_000),
    Coupon(code="HARBOUR15", kind=Kind.PERCENTAGE, value=1_500, minimum_spend=6_000, ends=timedelta(days=90)),
    Coupon(code="FIRST20", kind=Kind.FIXED, value=2_000, minimum_spend=8_000, total_limit=40, per_customer_limit=2),
    Coupon(code="LASTONE", kind=Kind.PERCENTAGE, value=5_000, total_limit=1),
    Coupon(code="SPRING", kind=Kind.PERCENTAGE, value=2_000, begins=timedelta(days=60), ends=timedelta(days=150)),
    Coupon(code="SUMMER", kind=Kind.FIXED, value=1_000, begins=timedelta(days=-150), ends=timedelta(days=-30)),
    Coupon(code="STAFF25", kind=Kind.PERCENTAGE, value=2_500, active=False),
)
EVERYDAY_COUPONS = ("REGULAR", "WELCOME10", "SAIL5", "HARBOUR15", "FIRST20")
SCARCE_COUPON = "LASTONE"
SCARCE = 10  # a product with fewer pieces is left for the orders that are too large for it

CUSTOMERS = (
    "Ada Lindqvist", "Amir Haddad", "Anneke de Vries", "Aurora Conti", "Bela Novak", "Bram Janssen", "Carla Mendes",
    "Cian Murphy", "Clara Weiss", "Dario Rossi", "Dilara Kaya", "Edith Larsen", "Elias Virtanen", "Emeka Obi",
    "Esther Goldman", "Fatima Zahra", "Finn Petersen", "Freya Nielsen", "Gabriel Costa", "Greta Hoffmann",
    "Hana Sato", "Henrik Berg", "Ida Kowalska", "Ines Duarte", "Jakub Zielinski", "Jonas Keller", "Josephine Martin",
    "Kaja Hansen", "Katarina Horvat", "Lars Eriksen", "Leila Nasser", "Lucas Bernard", "Maeve Kelly", "Marek Svoboda",
    "Mina Park", "Nadia Petrova", "Niels Bakker", "Nora Olsen", "Oscar Lund", "Paula Fischer", "Priya Raman",
    "Ravi Menon", "Rosa Marino", "Samuel Okafor", "Selma Dahl", "Sofia Andersson", "Tomas Varga", "Vera Ivanova",
    "Willem Visser", "Yara Silva",
)  # fmt: skip
