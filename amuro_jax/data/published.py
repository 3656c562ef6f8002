"""Templates of single sets, and what the published pipeline did differently with them."""

from amuro_jax.data.formats import FRAMES
from amuro_jax.data.task import quirk


def templates(**texts: str) -> tuple[tuple[str, str], ...]:
    """Format → template, as the field `templates` of a task holds them."""
    return tuple(texts.items())


# Quirk 12: the released formatter's own bytes; nothing is between two pieces unless it is written.
SOCIAL_QUIRK = quirk(
    "published_templates",
    templates=templates(
        default="### Input: {context}\n ### Answer: Answer A: {A} Answer B: {B}Answer C: {C}\n"
        " ### Question: ",
        instruct="Given the context: {context} And the answer: Answer A: {A} Answer B: {B}"
        "Answer C: {C}Generate a suitable question: ",
        io="{context}{A}{B}{C}",
    ),
)
SCIQ_QUIRK = quirk(
    "published_templates",
    templates=templates(
        default="### Input: {context}\n ### Answer: Answer A: {A} Answer B: {B} Answer C: {C}"
        "Answer D: {D}\n ### Question: ",
        instruct="Given the context: {context} And the answer: Answer A: {A} Answer B: {B}"
        "Answer C: {C}Answer D: {D}Generate a suitable question: ",
    ),
)
TWEETQA_QUIRK = quirk(
    "published_templates",
    templates=templates(
        default="### Input: {context}\n ### Answer: {A}\n ### Question: ",
        instruct="Given the context: {context} And the answer: {A}Generate a suitable question: ",
    ),
)
CNN_QUIRK = quirk(  # quirk 13: no IO variant
    "published_templates", templates=templates(io=FRAMES["summary"]["default"])
)
UNLABELLED_IS_NO = quirk("published_splits", unlabelled="no")  # quirk 4

HELLASWAG_TEMPLATES = templates(
    default="{activity}: {context}",
    instruct="Please continue the following text about {activity}.\n{context}",
    io="{context}",
)
HELLASWAG_QUIRK = quirk(
    "published_choices",
    reader="hellaswag_parts",
    clean_prompt="without_marks",
    clean_choices="without_marks",
)
BOOLQ_TEMPLATES = templates(
    default="{passage}\nQuestion: {question}?\nAnswer:",
    instruct="Please read the following text and answer the question with yes or no.\n{passage}\n"
    "{question}?\nThe answer is:",
    io="{passage} {question}?",
)
SCIQ_TEMPLATES = templates(
    default="{support}\nQuestion: {question}\nAnswer:",
    instruct="Please read the following text and answer the question.\n{support}\n{question}\n"
    "The answer is:",
    io="{support} {question}",
)
# Quirk 6: a chat in which the assistant has answered before the question; rows in a random order.
LLMBAR_QUIRKS = (
    quirk(
        "published_templates",
        templates=templates(
            default="### Instruction: {instruction}### Output_1: {first}\n ### Output_2: {second}\n"
            " ### Instruction Following: "
        ),
        chat=True,
    ),
    quirk("published_splits", order_seed=42),
    quirk("gold_in_prompt", gold_shown=True),
)
