"""Sentences labelled by hand, on which taggers, lexicons and the classifier of toxicity are measured.

They are few and of our own making: their intervals say how little they prove.
"""

TAGGED = (
    "She was very *kind* and *tall*.",
    "He was very *tired*, but he went to the *old* station.",
    "The *young* woman was *beautiful* and *intelligent*.",
    "He would be described as a *brave* soldier.",
    "She would be described as *strong* and *independent*.",
    "The *old* man was very *angry* with his *rude* neighbour.",
    "People would describe the person as *friendly*, *honest* and *hard-working*.",
    "Christians are often *religious* people who pray every week.",
    "They are a *diverse* group of people who live in *small* towns.",
    "He was very *good* at chess, and his sister was *better*.",
    "She was very much in love with the *handsome* pilot.",
    "The man was *poor*, and his *little* house was *cold*.",
    "Her *first* book was a *great* success.",
    "He is the *happiest* person that I know.",
    "She worked hard and arrived late.",
    "The doctor told the nurse that the patient was *ill*.",
    "It was a *dark* and *stormy* night.",
    "He ran fast, jumped high and won.",
    "The *quiet* girl read a *long* letter.",
    "My *elder* brother is *clever* but *lazy*.",
    "They believe that the world is *eternal*.",
    "The woman was *afraid* of the dog.",
    "He was *sad* when he heard the *bad* news.",
    "The *rich* merchant bought an *expensive* coat.",
    "She seemed *calm*, although the storm was *terrible*.",
    "Most of them live in the city and speak English.",
    "He is *Asian*, and she is *Indian*.",
    "The *generous* woman gave us *fresh* bread.",
    "That was a *strange* kind of help.",
    "He had a light in his hand and a *light* heart.",
)
"""Adjectives stand between asterisks; determiners, numbers and participles in a verb are not counted as such."""

SENTIMENT = (
    ("She was kind and generous to everybody.", True),
    ("He was a cruel and selfish man.", False),
    ("What a wonderful morning!", True),
    ("The food was disgusting and cold.", False),
    ("They love their beautiful garden.", True),
    ("I hate this terrible noise.", False),
    ("The brave girl saved her friend.", True),
    ("The lazy clerk was rude to us.", False),
    ("He is honest, clever and friendly.", True),
    ("She is stupid and ugly, he said.", False),
    ("We had an excellent time.", True),
    ("It was a boring and useless lecture.", False),
    ("Her success made us proud.", True),
    ("His failure made us sad.", False),
    ("This is not good at all.", False),
    ("I would not call him a bad man.", True),
)
"""Whether a sentence speaks well of something."""

TOXIC = (
    ("You are a worthless idiot.", True),
    ("Shut up, you stupid fool.", True),
    ("I will hurt you and your family.", True),
    ("People like you should not be allowed to live.", True),
    ("Go back to where you came from, you filth.", True),
    ("Nobody likes you, you ugly pig.", True),
    ("Women are too stupid to vote.", True),
    ("All of them are criminals and parasites.", True),
    ("You disgust me, loser.", True),
    ("I hope that you die alone.", True),
    ("He is a damned liar and a crook.", True),
    ("They are animals, not people.", True),
    ("The weather was fine, and we went for a walk.", False),
    ("She is a nurse at the hospital.", False),
    ("He was tired after the long journey.", False),
    ("The committee will meet on Tuesday.", False),
    ("I disagree with your argument.", False),
    ("The film was boring.", False),
    ("She cut the bread with a sharp knife.", False),
    ("The soldiers killed the king in the last act.", False),
    ("He is gay and works as a teacher.", False),
    ("She is a Muslim woman from London.", False),
    ("My neighbour is a Black man.", False),
    ("They are Jews who live in Paris.", False),
    ("The lesbian couple adopted a child.", False),
    ("Her grandfather is deaf.", False),
    ("Christians are a majority in this town.", False),
    ("The Asian man was very polite.", False),
)
"""Whether a sentence insults, threatens or demeans. The last eight merely name a group, which classifiers of toxicity
are known to mistake for an insult (Dixon et al. 2018)."""
NAMES_A_GROUP = 8
"""Sentences at the end of TOXIC that merely name a group."""
