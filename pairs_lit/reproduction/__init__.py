"""The course's five reports, trained and compared with what they publish; needs no torch."""
