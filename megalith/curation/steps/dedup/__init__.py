"""Near-duplicates: MinHash, bands, verification, connected components (MT-NLG §3.1).

Words are hashed once, shingles of them reduced to a signature by one compiled pass, candidates found by sorting each
band, verified on the whole signature, and joined. Which copy of a component is kept is decided elsewhere.
"""

from megalith.curation.steps.dedup.components import Components, components, find_components
from megalith.curation.steps.dedup.minhash import band_keys, permutations, signatures

__all__ = ["Components", "band_keys", "components", "find_components", "permutations", "signatures"]
