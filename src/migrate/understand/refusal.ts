/** Why a document cannot be taken: a sentence that names the field. */
export class Refusal extends Error {}
