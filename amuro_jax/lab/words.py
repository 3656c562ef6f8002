"""Words of the laboratory's world. Names, things, places, times and trades are split in two halves:
those of the fine-tuning sets, and others, reserved for out-of-domain tests. Pre-training sees both
halves; fine-tuning sees the first only.
"""

# (name, pronoun)
NAMES = (
    ("Mara", "she"),
    ("Tom", "he"),
    ("Ana", "she"),
    ("Ben", "he"),
    ("Lena", "she"),
    ("Otto", "he"),
    ("Ruth", "she"),
    ("Paul", "he"),
    ("Nina", "she"),
    ("Hugo", "he"),
    ("Ella", "she"),
    ("Karl", "he"),
    ("Rosa", "she"),
    ("Finn", "he"),
    ("Clara", "she"),
    ("Jon", "he"),
)
OTHER_NAMES = (
    ("Greta", "she"),
    ("Emil", "he"),
    ("Sofia", "she"),
    ("Arno", "he"),
    ("Tilda", "she"),
    ("Bruno", "he"),
    ("Freya", "she"),
    ("Rolf", "he"),
)
# Ways a person can be: two opposite poles, each of four words that mean the same. `holdout` says
# which pairs of them only tests compare.
POLES = (
    (("happy", "glad", "cheerful", "merry"), ("sad", "gloomy", "downcast", "mournful")),
    (("rich", "wealthy", "prosperous", "affluent"), ("poor", "needy", "penniless", "destitute")),
)
FEELINGS = ("happy", "sad", "tired", "hungry", "angry", "proud")

# category: (things of the fine-tuning sets, other things)
THINGS = {
    "fruit": (("lemon", "pear", "plum"), ("peach", "grape")),
    "tool": (("hammer", "saw", "spade"), ("rake", "chisel")),
    "toy": (("doll", "kite", "ball"), ("puppet", "marble")),
    "garment": (("coat", "hat", "scarf"), ("glove", "belt")),
    "vessel": (("cup", "bowl", "jug"), ("mug", "pot")),
    "flower": (("rose", "tulip", "lily"), ("poppy", "violet")),
}
PLACES = (
    "market",
    "mill",
    "barn",
    "harbor",
    "garden",
    "church",
    "school",
    "castle",
    "bridge",
    "tavern",
)
OTHER_PLACES = ("meadow", "chapel", "cellar", "tower", "village")
TIMES = ("in the morning", "in the evening", "at noon", "at night")
OTHER_TIMES = ("at dawn", "at dusk")
TRADES = (
    "baker",
    "miller",
    "farmer",
    "doctor",
    "teacher",
    "guard",
    "singer",
    "weaver",
    "sailor",
    "hunter",
)
OTHER_TRADES = ("painter", "cook", "judge", "smith", "tailor")

# What one person does to another: past form (also its participle), and one that means the same.
DEEDS = (
    ("helped", "assisted"),
    ("praised", "lauded"),
    ("scolded", "rebuked"),
    ("chased", "pursued"),
)
# How someone gets a thing: base form, past form, and one that means the same.
GETTING = (
    ("buy", "bought", "purchased"),
    ("find", "found", "discovered"),
    ("make", "made", "crafted"),
    ("carry", "carried", "hauled"),
)
# What befalls a thing: base form, past form.
MISHAPS = (("lose", "lost"), ("break", "broke"), ("drop", "dropped"), ("forget", "forgot"))

# Of each kind of creature the world fixes one value per attribute.
ATTRIBUTES = {
    "color": ("red", "green", "blue", "yellow", "brown", "white", "black", "grey"),
    "food": ("seeds", "roots", "fish", "worms", "berries", "leaves", "grass", "nuts"),
    "home": ("forests", "rivers", "caves", "deserts", "swamps", "hills", "lakes", "fields"),
    "cover": ("fur", "feathers", "scales", "wool", "spines", "shells", "skin", "hair"),
    "fear": ("fire", "snow", "wolves", "thunder", "rain", "wind", "snakes", "darkness"),
}
# The same of creatures that enter the corpus late (`late.py`), besides.
MORE_ATTRIBUTES = {
    "bed": ("moss", "sand", "straw", "mud", "ice", "twigs", "stones", "petals"),
    "voice": ("whistle", "growl", "hum", "hiss", "bark", "squeak", "roar", "click"),
    "company": ("bees", "owls", "mice", "frogs", "ducks", "bats", "moths", "crabs"),
}
VALUES = ATTRIBUTES | MORE_ATTRIBUTES

# What people do, step by step; each step follows a name or pronoun.
SCRIPTS = {
    "making tea": (
        "fills the kettle with water",
        "puts the kettle on the stove",
        "drops the tea into the kettle",
        "pours the tea into a glass",
    ),
    "baking bread": (
        "mixes flour and water",
        "kneads the dough",
        "lets the dough rise",
        "puts the loaf into the oven",
    ),
    "planting a tree": (
        "digs a hole",
        "sets the tree into the hole",
        "covers the roots with soil",
        "waters the tree",
    ),
    "washing clothes": (
        "gathers the clothes",
        "soaks the clothes in soap",
        "wrings the clothes",
        "hangs the clothes on a line",
    ),
    "fishing": (
        "ties a hook to the line",
        "throws the line into the lake",
        "waits for a bite",
        "pulls the fish from the lake",
    ),
    "writing a letter": (
        "takes a sheet of paper",
        "writes the letter",
        "folds the letter",
        "sends the letter",
    ),
    "lighting a fire": (
        "collects dry wood",
        "stacks the wood",
        "strikes a match",
        "warms both hands at the fire",
    ),
    "riding": (
        "brushes the horse",
        "saddles the horse",
        "climbs onto the horse",
        "gallops over the hills",
    ),
    "painting a wall": (
        "opens the paint",
        "dips a brush into the paint",
        "spreads the paint on the wall",
        "lets the wall dry",
    ),
    "milking": (
        "brings a bucket to the cow",
        "sits beside the cow",
        "milks the cow",
        "carries the milk home",
    ),
    "sewing": ("threads the needle", "pins the cloth", "sews the cloth", "cuts the thread"),
    "shaving": ("wets the beard", "lathers the beard", "shaves the beard", "rinses the razor"),
}
