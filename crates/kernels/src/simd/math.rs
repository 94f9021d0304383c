//! Elementary functions on vectors, to within a few units in the last place.
