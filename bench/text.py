"""What a model reads where two versions of its weights are compared: prose, so that a real model has something to say.

Written for this, so that no model has seen it and no change of this repository's pages changes the figure.
"""

POSITIONS = 512   # of the text's tokens that are compared

TEXT = """\
The ferry to the island leaves at six in the morning, and nobody who lives on the coast would think of taking it. \
They wait for the one at ten, when the fog has lifted and the bakery at the harbour has opened its shutters. Still, \
there are always a few people on the first boat: a postman with two grey sacks, a student who has mistaken the \
timetable, a woman who carries a cage with a sleeping cat. The captain knows the route so well that he steers with \
one hand and writes letters with the other. He writes to his sister, who moved to a city far from any water and wants \
to hear about the tides. On some days he has nothing to report except the colour of the sky, which he describes with \
great care: slate in the west, then a thin line of brass, and above it a blue so pale that it might be white.

When the boat arrives, the island is still asleep. The road from the pier climbs between stone walls and ends at a \
square with a fountain, four lime trees and a bench that has been painted green every spring for sixty years. The \
first person to appear is usually the teacher. She opens the windows of the school, feeds the stove in winter, and \
writes the date on the board. After that she draws a small map next to it, because each week the children choose a \
country and learn how many people live there, what they grow, and how long a letter would need to reach them. Last \
week it was Iceland; this week, after a long debate and a vote that had to be repeated, it is Madagascar. One of the \
boys has brought a vanilla pod from his grandmother's kitchen, and the whole room smells of it.

At noon the sun stands above the lighthouse and the shadows are short. Fishermen mend their nets on the wall and \
argue about the price of diesel. If you ask them how far one can see from the tower, each will give you another \
number: twenty kilometres, thirty, forty on a clear day in March. The keeper, who has measured it with a chart and a \
pair of compasses, says that it is thirty-one, but he adds that nobody ever came up all those stairs for the sake of \
a number. They come because the wind sounds different there, and because the sea, which from below looks like a wall, \
turns out to be a floor on which the clouds walk slowly towards the land.

In the evening the last ferry brings back those who went to the mainland for screws, medicine or a haircut. They \
stand at the rail with their bags between their feet and count the lights: the harbour, the inn, the school, where \
somebody has forgotten to switch off a lamp, and high above all of them the slow white beam, which passes over the \
water, over the roofs and over the sleeping cat, and comes round again before anyone has finished a sentence.
"""


def text_ids(tokenizer, most):
    """The first tokens of the text, POSITIONS or `most` if that is less."""
    return tokenizer.encode(TEXT)[:min(POSITIONS, most)]
